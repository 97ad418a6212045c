package store

import (
	"context"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/sluicekeep/sluicekeep"
)

// vantage is a row: the name finds it, the body is the public word as JSON, so
// that a new field needs no migration.
type vantage struct {
	bun.BaseModel `bun:"table:vantages,alias:vantage"`
	Name          string `bun:",pk"`
	Body          string
}

// PutVantage implements [Vantages].
func (s *DB) PutVantage(ctx context.Context, v sluicekeep.Vantage) error {
	if err := checkName("vantage", v.Name); err != nil {
		return err
	}
	body, err := encode(v)
	if err != nil {
		return fmt.Errorf("save the vantage %s: %w", v.Name, err)
	}
	return s.write(ctx, "save the vantage "+v.Name, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewInsert().Model(&vantage{Name: v.Name, Body: body}).
			On("CONFLICT (name) DO UPDATE").Set("body = EXCLUDED.body").Exec(ctx)
		return err
	})
}

// DeleteVantage implements [Vantages].
func (s *DB) DeleteVantage(ctx context.Context, name string) error {
	return s.write(ctx, "remove the vantage", func(ctx context.Context, tx bun.Tx) error {
		res, err := tx.NewDelete().Model((*vantage)(nil)).Where("name = ?", plain(name)).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n > 0 {
			return err
		}
		return sluicekeep.Errorf(sluicekeep.NotFound, "see sluicekeep vantage list", "there is no vantage %q", name)
	})
}

// Vantages implements [Vantages]; they come sorted by name.
func (s *DB) Vantages(ctx context.Context) ([]sluicekeep.Vantage, error) {
	var rows []vantage
	if err := s.bun.NewSelect().Model(&rows).Order("name").Scan(ctx); err != nil {
		return nil, s.failed("list the vantages", err)
	}
	out := make([]sluicekeep.Vantage, len(rows))
	for i, r := range rows {
		if err := decode(r.Body, &out[i], "vantage "+r.Name); err != nil {
			return nil, err
		}
	}
	return out, nil
}
