package store

import (
	"context"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/sluicekeep/sluicekeep"
)

// event is a row: the columns are what readers select by.
type event struct {
	bun.BaseModel `bun:"table:events,alias:event"`
	Number        int64 `bun:",pk"`
	At            stamp
	Kind          string
	ChangeID      string
	Body          string
}

// AppendEvent implements [Events].
func (s *DB) AppendEvent(ctx context.Context, e sluicekeep.Event) (int64, error) {
	body, err := encode(e)
	if err != nil {
		return 0, fmt.Errorf("log an event: %w", err)
	}
	row := event{At: stampOf(e.At), Kind: plain(e.Kind), ChangeID: plain(e.Change), Body: body}
	err = s.write(ctx, "log an event", func(ctx context.Context, tx bun.Tx) error {
		// Not an identity column: those may become visible out of order, and a
		// reader that asks for what is after a number would miss some.
		if row.Number, err = next(ctx, tx, "event"); err != nil {
			return err
		}
		_, err := tx.NewInsert().Model(&row).Exec(ctx)
		return err
	})
	return row.Number, err
}

// Events implements [Events].
func (s *DB) Events(ctx context.Context, f EventFilter) ([]LoggedEvent, error) {
	var rows []event
	q := s.bun.NewSelect().Model(&rows).Where("number > ?", f.After).Order("number")
	if !f.Since.IsZero() {
		q = q.Where("at >= ?", stampOf(f.Since))
	}
	if f.Kind != "" {
		q = q.Where("kind = ?", plain(f.Kind))
	}
	if f.Change != "" {
		q = q.Where("change_id = ?", plain(f.Change))
	}
	if f.Limit > 0 {
		q = q.Limit(int64(f.Limit))
	}
	if err := q.Scan(ctx); err != nil {
		return nil, s.failed("read the events", err)
	}
	out := make([]LoggedEvent, len(rows))
	for i, r := range rows {
		out[i].Number = r.Number
		if err := decode(r.Body, &out[i].Event, "event"); err != nil {
			return nil, err
		}
	}
	return out, nil
}
