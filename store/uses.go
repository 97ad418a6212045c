package store

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/sluicekeep/sluicekeep"
)

// use is a row per port, source and hour: an hour is the grain in which payload
// is counted, and bounds how many rows a busy client makes.
type use struct {
	bun.BaseModel `bun:"table:uses,alias:u"`
	Transport     string `bun:",pk"`
	Port          int64  `bun:",pk"`
	Source        string `bun:",pk"`
	Hour          stamp  `bun:",pk"`
	FirstAt       stamp
	LastAt        stamp
	BytesIn       int64
	BytesOut      int64
	Observer      string
}

// useKey is what makes two uses the same.
type useKey struct {
	port   sluicekeep.Port
	source netip.Addr
	hour   stamp
}

// useRows bounds the rows of one statement.
const useRows = 500

// SaveUses implements [Clients].
func (s *DB) SaveUses(ctx context.Context, uses []sluicekeep.Use) error {
	rows, err := foldUses(uses)
	if err != nil || len(rows) == 0 {
		return err
	}
	return s.write(ctx, "save who uses the ports", func(ctx context.Context, tx bun.Tx) error {
		return chunked(rows, useRows, func(rows []use) error {
			_, err := tx.NewInsert().Model(&rows).On("CONFLICT (transport, port, source, hour) DO UPDATE").
				Set("first_at = " + lesser("first_at")).Set("last_at = " + greater("last_at")).
				Set("bytes_in = " + greater("bytes_in")).Set("bytes_out = " + greater("bytes_out")).
				Set("observer = " + greater("observer")).Exec(ctx)
			return err
		})
	})
}

// lesser keeps the smaller of two values on conflict. It is written out because
// MIN of two values has another name in PostgreSQL than in SQLite.
func lesser(col string) string {
	return fmt.Sprintf("CASE WHEN EXCLUDED.%[1]s < u.%[1]s THEN EXCLUDED.%[1]s ELSE u.%[1]s END", col)
}

// greater keeps the larger of two values; see lesser.
func greater(col string) string {
	return fmt.Sprintf("CASE WHEN EXCLUDED.%[1]s > u.%[1]s THEN EXCLUDED.%[1]s ELSE u.%[1]s END", col)
}

// foldUses merges uses of the same key, since one statement may touch a row
// only once, and sorts them, since two writers must lock in one order.
func foldUses(uses []sluicekeep.Use) ([]use, error) {
	folded := make(map[useKey]use, len(uses))
	for _, u := range uses {
		if !u.Source.IsValid() || u.Transport.Number() == 0 || u.Number == 0 {
			return nil, sluicekeep.Errorf(sluicekeep.Invalid, "report port and source",
				"a use of %s has no source or port", u.Port)
		}
		key := useKey{u.Port, u.Source.Unmap(), stampOf(u.Hour.Truncate(time.Hour))}
		row := use{
			Transport: string(u.Transport), Port: int64(u.Number), Source: key.source.String(), Hour: key.hour,
			FirstAt: stampOf(u.First), LastAt: stampOf(u.Last), Observer: plain(u.By),
			BytesIn: count(u.BytesIn), BytesOut: count(u.BytesOut),
		}
		if old, ok := folded[key]; ok {
			row.FirstAt, row.LastAt = min(row.FirstAt, old.FirstAt), max(row.LastAt, old.LastAt)
			row.BytesIn, row.BytesOut = max(row.BytesIn, old.BytesIn), max(row.BytesOut, old.BytesOut)
			row.Observer = max(row.Observer, old.Observer)
		}
		folded[key] = row
	}
	return slices.SortedFunc(maps.Values(folded), func(a, b use) int {
		return cmp.Or(cmp.Compare(a.Transport, b.Transport), cmp.Compare(a.Port, b.Port),
			cmp.Compare(a.Source, b.Source), cmp.Compare(a.Hour, b.Hour))
	}), nil
}

// count fits a counter into a signed column.
func count(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// Clients implements [Clients].
func (s *DB) Clients(ctx context.Context, since time.Time) ([]sluicekeep.Client, error) {
	var rows []struct {
		use
		PayloadHours int
	}
	err := s.bun.NewSelect().Model((*use)(nil)).Column("transport", "port", "source").
		ColumnExpr("MIN(first_at) AS first_at").ColumnExpr("MAX(last_at) AS last_at").
		ColumnExpr("MAX(observer) AS observer").
		ColumnExpr("SUM(CASE WHEN bytes_in > 0 AND bytes_out > 0 THEN 1 ELSE 0 END) AS payload_hours").
		Where("last_at >= ?", stampOf(since)).Group("transport", "port", "source").Scan(ctx, &rows)
	if err != nil {
		return nil, s.failed("read the known clients", err)
	}
	out := make([]sluicekeep.Client, len(rows))
	for i, r := range rows {
		source, err := netip.ParseAddr(r.Source)
		if err != nil {
			return nil, fmt.Errorf("read the stored clients: %w", err)
		}
		out[i] = sluicekeep.Client{
			Port:   sluicekeep.Port{Transport: sluicekeep.Transport(r.Transport), Number: uint16(r.Port)},
			Source: source, First: r.FirstAt.time(), Last: r.LastAt.time(),
			PayloadHours: r.PayloadHours, By: r.Observer,
		}
	}
	slices.SortFunc(out, func(a, b sluicekeep.Client) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Transport, b.Transport), a.Source.Compare(b.Source))
	})
	return out, nil
}
