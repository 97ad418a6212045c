package store

import (
	"context"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/sluicekeep/sluicekeep"
)

// change is a row: the columns are what lists select by, the body is the
// public word as JSON.
type change struct {
	bun.BaseModel `bun:"table:changes,alias:change"`
	ID            string `bun:",pk"`
	Asset         string
	State         string
	Over          bool
	Asked         stamp
	Version       int64
	Body          string
}

// storyRow is one event of a story. Stories grow while other writers hold a
// version of the change, so they are kept apart and never conflict.
type storyRow struct {
	bun.BaseModel `bun:"table:story,alias:story"`
	ID            int64 `bun:",pk,autoincrement"`
	ChangeID      string
	Body          string
}

// NextChangeID implements [Changes].
func (s *DB) NextChangeID(ctx context.Context) (string, error) {
	var n int64
	err := s.write(ctx, "number a change", func(ctx context.Context, tx bun.Tx) (err error) {
		n, err = next(ctx, tx, "change")
		return err
	})
	return fmt.Sprintf("c-%d", n), err
}

// SaveChange implements [Changes].
func (s *DB) SaveChange(ctx context.Context, c *sluicekeep.Change) error {
	if err := checkName("change", c.ID); err != nil {
		return err
	}
	row, err := changeRow(*c)
	if err != nil {
		return fmt.Errorf("save change %s: %w", c.ID, err)
	}
	err = s.write(ctx, "save change "+c.ID, func(ctx context.Context, tx bun.Tx) error {
		return saveChange(ctx, tx, row)
	})
	if err == nil {
		c.Version++
	}
	return err
}

// changeRow makes the row that would follow c.
func changeRow(c sluicekeep.Change) (change, error) {
	c.Version++
	c.Story = nil
	body, err := encode(c)
	return change{
		ID: c.ID, Asset: plain(c.Plan.Asset), State: plain(string(c.State)), Over: c.State.Over(),
		Asked: stampOf(c.Asked), Version: int64(c.Version), Body: body,
	}, err
}

// saveChange writes row if its version follows the stored one. When nothing
// was written it finds out why.
func saveChange(ctx context.Context, tx bun.Tx, row change) error {
	exec := tx.NewUpdate().Model(&row).WherePK().Where("version = ?", row.Version-1).Exec
	if row.Version == 1 {
		exec = tx.NewInsert().Model(&row).On("CONFLICT (id) DO NOTHING").Exec
	}
	res, err := exec(ctx)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		return err
	}
	exists, err := tx.NewSelect().Model((*change)(nil)).Where("id = ?", row.ID).Exists(ctx)
	switch {
	case err != nil:
		return err
	case !exists:
		return noChange(row.ID)
	}
	return sluicekeep.Errorf(sluicekeep.Conflict, "read it again and retry",
		"change %s was changed by someone else meanwhile", row.ID)
}

// noChange says that an id is unknown.
func noChange(id string) error {
	return sluicekeep.Errorf(sluicekeep.NotFound, "see sluicekeep change list", "there is no change %q", id)
}

// Change implements [Changes].
func (s *DB) Change(ctx context.Context, id string) (*sluicekeep.Change, error) {
	row := change{ID: plain(id)}
	if err := s.bun.NewSelect().Model(&row).WherePK().Scan(ctx); err != nil {
		return nil, s.failed("read change "+id, missing(err, "see sluicekeep change list", "there is no change %q", id))
	}
	var c sluicekeep.Change
	if err := decode(row.Body, &c, "change "+id); err != nil {
		return nil, err
	}
	var story []storyRow
	err := s.bun.NewSelect().Model(&story).Where("change_id = ?", id).Order("id").Scan(ctx)
	if err != nil {
		return nil, s.failed("read the story of "+id, err)
	}
	for _, r := range story {
		var e sluicekeep.Event
		if err := decode(r.Body, &e, "story of "+id); err != nil {
			return nil, err
		}
		c.Story = append(c.Story, e)
	}
	return &c, nil
}

// Changes implements [Changes].
func (s *DB) Changes(ctx context.Context, f ChangeFilter) ([]sluicekeep.Change, error) {
	var rows []change
	q := s.bun.NewSelect().Model(&rows).Order("asked DESC", "id DESC")
	if len(f.States) > 0 {
		q = q.Where("state IN (?)", bun.List(f.States))
	}
	if f.Open {
		q = q.Where("over = ?", false)
	}
	if f.Asset != "" {
		q = q.Where("asset = ?", plain(f.Asset))
	}
	if !f.Since.IsZero() {
		q = q.Where("asked >= ?", stampOf(f.Since))
	}
	if f.Limit > 0 {
		q = q.Limit(int64(f.Limit))
	}
	if err := q.Scan(ctx); err != nil {
		return nil, s.failed("list the changes", err)
	}
	out := make([]sluicekeep.Change, len(rows))
	for i, r := range rows {
		if err := decode(r.Body, &out[i], "change "+r.ID); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// AppendStory implements [Changes].
func (s *DB) AppendStory(ctx context.Context, id string, e sluicekeep.Event) error {
	e.Change = id
	body, err := encode(e)
	if err != nil {
		return fmt.Errorf("tell the story of %s: %w", id, err)
	}
	return s.write(ctx, "tell the story of "+id, func(ctx context.Context, tx bun.Tx) error {
		exists, err := tx.NewSelect().Model((*change)(nil)).Where("id = ?", plain(id)).Exists(ctx)
		if err != nil {
			return err
		}
		if !exists {
			return noChange(id)
		}
		_, err = tx.NewInsert().Model(&storyRow{ChangeID: id, Body: body}).Exec(ctx)
		return err
	})
}
