package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/sluicekeep/sluicekeep"
)

// coverage is a time during which we looked at a topic.
type coverage struct {
	Topic   string
	FromAt  stamp
	UntilAt stamp
}

// coverageRow is coverage as a row.
type coverageRow struct {
	bun.BaseModel `bun:"table:coverage,alias:coverage"`
	coverage
}

// cover records c, joining all spans of its topic that touch it or lie at
// most gap away from it.
func cover(ctx context.Context, tx bun.Tx, c coverage, gap time.Duration) error {
	var near []coverageRow
	err := tx.NewSelect().Model(&near).Where("topic = ?", c.Topic).
		Where("until_at >= ?", c.FromAt-stamp(gap)).Where("from_at <= ?", c.UntilAt+stamp(gap)).
		Order("from_at").Scan(ctx)
	if err != nil {
		return err
	}
	for _, n := range near {
		c.FromAt, c.UntilAt = min(c.FromAt, n.FromAt), max(c.UntilAt, n.UntilAt)
	}
	if len(near) == 1 && near[0].FromAt == c.FromAt { // the common case: one more look
		_, err := tx.NewUpdate().Model(&near[0]).Set("until_at = ?", c.UntilAt).
			Where("topic = ?", c.Topic).Where("from_at = ?", c.FromAt).Exec(ctx)
		return err
	}
	for _, n := range near {
		_, err := tx.NewDelete().Model(&n).Where("topic = ?", n.Topic).Where("from_at = ?", n.FromAt).Exec(ctx)
		if err != nil {
			return err
		}
	}
	_, err = tx.NewInsert().Model(&coverageRow{coverage: c}).Exec(ctx)
	return err
}

// lastCovered returns the last moment up to at when topic was looked at, 0
// for never.
func lastCovered(ctx context.Context, db bun.IDB, topic string, at stamp) (stamp, error) {
	var row coverageRow
	err := db.NewSelect().Model(&row).Where("topic = ?", topic).Where("from_at <= ?", at).
		Order("from_at DESC").Limit(1).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return min(at, row.UntilAt), err
}

// useTopic is the coverage of [Clients].
const useTopic = "uses"

// Watching implements [Clients].
func (s *DB) Watching(ctx context.Context, from, to time.Time) error {
	if to.Before(from) || from.IsZero() {
		return sluicekeep.Errorf(sluicekeep.Invalid, "give the earlier time first",
			"a watch cannot go from %s to %s", from.Format(time.RFC3339), to.Format(time.RFC3339))
	}
	return s.write(ctx, "record the watch", func(ctx context.Context, tx bun.Tx) error {
		return cover(ctx, tx, coverage{useTopic, stampOf(from), stampOf(to)}, WatchGap)
	})
}

// Watched implements [Clients].
func (s *DB) Watched(ctx context.Context, since time.Time) (time.Duration, error) {
	var rows []coverageRow
	err := s.bun.NewSelect().Model(&rows).Where("topic = ?", useTopic).
		Where("until_at > ?", stampOf(since)).Scan(ctx)
	var total time.Duration
	for _, r := range rows {
		total += time.Duration(r.UntilAt - max(r.FromAt, stampOf(since)))
	}
	return total, s.failed("read the watch", err)
}

// WatchedSince implements [Clients].
func (s *DB) WatchedSince(ctx context.Context) (time.Time, error) {
	var row coverageRow
	err := s.bun.NewSelect().Model(&row).Where("topic = ?", useTopic).Order("from_at DESC").Limit(1).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, nil
	}
	return row.FromAt.time(), s.failed("read the watch", err)
}
