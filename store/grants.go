package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/sluicekeep/sluicekeep"
)

// grant is a row. Ended is a column besides the tombstone in the body, so that
// the grants in force are found without reading all that ever were.
type grant struct {
	bun.BaseModel `bun:"table:grants,alias:g"`
	ID            string `bun:",pk"`
	Source        string
	Ended         stamp
	Body          string
}

// policy is an applied document; every one is kept as evidence.
type policy struct {
	bun.BaseModel `bun:"table:policies,alias:policy"`
	Number        int64 `bun:",pk"`
	Hash          string
	Applied       stamp
	AppliedBy     string
	Document      string
}

// SourcePolicy is the Source of the grants that the policy file owns.
const SourcePolicy = "policy"

// PutGrant implements [Grants].
func (s *DB) PutGrant(ctx context.Context, g sluicekeep.Grant) error {
	return s.write(ctx, "save the grant "+g.ID, func(ctx context.Context, tx bun.Tx) error {
		return putGrant(ctx, tx, g)
	})
}

// putGrant writes g unless its id belongs to another source. The condition is
// part of the statement, so two writers cannot both pass it.
func putGrant(ctx context.Context, tx bun.Tx, g sluicekeep.Grant) error {
	if err := checkName("grant", g.ID); err != nil {
		return err
	}
	body, err := encode(g)
	if err != nil {
		return err
	}
	row := grant{ID: g.ID, Source: plain(g.Source), Body: body}
	if g.Tombstone != "" {
		row.Ended = stampOf(time.Now())
	}
	res, err := tx.NewInsert().Model(&row).On("CONFLICT (id) DO UPDATE").
		Set("body = EXCLUDED.body").Set("ended = EXCLUDED.ended").
		Where("g.source = EXCLUDED.source").Exec(ctx)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n > 0 {
		return err
	}
	return sluicekeep.Errorf(sluicekeep.Conflict, "choose another id",
		"the grant %s exists already and does not belong to the %s", g.ID, g.Source)
}

// EndGrant implements [Grants].
func (s *DB) EndGrant(ctx context.Context, id string, at time.Time, because string) error {
	return s.write(ctx, "end the grant "+id, func(ctx context.Context, tx bun.Tx) error {
		row := grant{ID: plain(id)}
		q := tx.NewSelect().Model(&row).WherePK()
		if err := q.Scan(ctx); err != nil {
			return missing(err, "see sluicekeep policy check", "there is no grant %q", id)
		}
		return endGrant(ctx, tx, row, at, because)
	})
}

// endGrant puts the tombstone on a grant that was read as row.
func endGrant(ctx context.Context, tx bun.Tx, row grant, at time.Time, because string) error {
	var g sluicekeep.Grant
	if err := decode(row.Body, &g, "grant "+row.ID); err != nil {
		return err
	}
	if g.Tombstone != "" {
		return nil // ended already; the first reason stays
	}
	g.Tombstone = because
	if because == "" {
		g.Tombstone = "ended"
	}
	body, err := encode(g)
	if err != nil {
		return err
	}
	// The condition keeps a grant that another server wrote meanwhile.
	res, err := tx.NewUpdate().Model(&grant{ID: row.ID, Body: body, Ended: stampOf(at)}).
		Column("body", "ended").WherePK().Where("body = ?", row.Body).Exec(ctx)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n > 0 {
		return err
	}
	return sluicekeep.Errorf(sluicekeep.Conflict, "try again",
		"the grant %s was changed by someone else meanwhile", row.ID)
}

// Grants implements [Grants].
func (s *DB) Grants(ctx context.Context, all bool) ([]sluicekeep.Grant, error) {
	rows, err := grants(ctx, s.bun, all)
	if err != nil {
		return nil, s.failed("list the grants", err)
	}
	out := make([]sluicekeep.Grant, len(rows))
	for i, r := range rows {
		if err := decode(r.Body, &out[i], "grant "+r.ID); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// grants reads the rows of the grants in force, or of all.
func grants(ctx context.Context, db bun.IDB, all bool) ([]grant, error) {
	var rows []grant
	q := db.NewSelect().Model(&rows).Order("id")
	if !all {
		q = q.Where("ended = 0")
	}
	return rows, q.Scan(ctx)
}

// ApplyPolicy implements [Grants].
func (s *DB) ApplyPolicy(ctx context.Context, p Policy, gs []sluicekeep.Grant) error {
	return s.write(ctx, "apply the policy", func(ctx context.Context, tx bun.Tx) error {
		if err := putPolicy(ctx, tx, p); err != nil {
			return err
		}
		for _, g := range gs {
			g.Source = SourcePolicy
			if err := putGrant(ctx, tx, g); err != nil {
				return err
			}
		}
		live, err := grants(ctx, tx, false)
		if err != nil {
			return err
		}
		for _, row := range live {
			named := slices.ContainsFunc(gs, func(g sluicekeep.Grant) bool { return g.ID == row.ID })
			if row.Source != SourcePolicy || named {
				continue
			}
			if err := endGrant(ctx, tx, row, p.Applied, "removed from the policy"); err != nil {
				return err
			}
		}
		return nil
	})
}

// putPolicy numbers and stores a document. Taking the number first makes two
// servers that apply a policy take turns.
func putPolicy(ctx context.Context, tx bun.Tx, p Policy) error {
	n, err := next(ctx, tx, "policy")
	if err != nil {
		return err
	}
	if p.Hash == "" {
		sum := sha256.Sum256([]byte(p.Text))
		p.Hash = hex.EncodeToString(sum[:])
	}
	row := policy{Number: n, Hash: plain(p.Hash), Applied: stampOf(p.Applied), AppliedBy: plain(p.By), Document: plain(p.Text)}
	_, err = tx.NewInsert().Model(&row).Exec(ctx)
	return err
}

// Policy implements [Grants].
func (s *DB) Policy(ctx context.Context) (Policy, error) {
	all, err := s.Policies(ctx, 1)
	if err == nil && len(all) == 0 {
		err = sluicekeep.Errorf(sluicekeep.NotFound, "draft one with sluicekeep policy init",
			"no policy was applied yet")
	}
	if err != nil {
		return Policy{}, err
	}
	return all[0], nil
}

// Policies implements [Grants].
func (s *DB) Policies(ctx context.Context, limit int) ([]Policy, error) {
	var rows []policy
	q := s.bun.NewSelect().Model(&rows).Order("number DESC")
	if limit > 0 {
		q = q.Limit(int64(limit))
	}
	if err := q.Scan(ctx); err != nil {
		return nil, s.failed("list the policies", fmt.Errorf("read the documents: %w", err))
	}
	out := make([]Policy, len(rows))
	for i, r := range rows {
		out[i] = Policy{Number: r.Number, Text: r.Document, Hash: r.Hash, Applied: r.Applied.time(), By: r.AppliedBy}
	}
	return out, nil
}
