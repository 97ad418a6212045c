package store

import (
	"context"
	"encoding/base64"
	"time"

	"github.com/uptrace/bun"

	"github.com/sluicekeep/sluicekeep"
)

// requestKey is a claimed key; its reply is base64, since it may be any bytes.
type requestKey struct {
	bun.BaseModel `bun:"table:request_keys,alias:k"`
	Name          string `bun:",pk"`
	Request       string
	Reply         string
	Claimed       stamp
	Settled       bool
}

// ClaimKey implements [Keys].
func (s *DB) ClaimKey(ctx context.Context, key, request string, now time.Time) (reply []byte, settled bool, err error) {
	if err := checkName("idempotency key", key); err != nil {
		return nil, false, err
	}
	err = s.write(ctx, "claim an idempotency key", func(ctx context.Context, tx bun.Tx) error {
		request = plain(request)
		row := requestKey{Name: key, Request: request, Claimed: stampOf(now)}
		// A claim that nobody settled in time belongs to a process that died.
		res, err := tx.NewInsert().Model(&row).On("CONFLICT (name) DO UPDATE").Set("claimed = EXCLUDED.claimed").
			Where("NOT k.settled AND k.request = EXCLUDED.request AND k.claimed < ?", stampOf(now.Add(-ClaimTimeout))).
			Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n > 0 {
			return err
		}
		reply, settled, err = claimed(ctx, tx, key, request)
		return err
	})
	return reply, settled, err
}

// claimed answers for a key that somebody else has claimed before.
func claimed(ctx context.Context, tx bun.Tx, key, request string) ([]byte, bool, error) {
	row := requestKey{Name: key}
	if err := tx.NewSelect().Model(&row).WherePK().Scan(ctx); err != nil {
		return nil, false, err
	}
	switch {
	case row.Request != request:
		return nil, false, sluicekeep.Errorf(sluicekeep.Conflict, "make a new key",
			"this idempotency key was used for another request")
	case !row.Settled:
		return nil, false, sluicekeep.Errorf(sluicekeep.Conflict, "wait, then ask again",
			"the same request is still at work")
	}
	reply, err := base64.StdEncoding.DecodeString(row.Reply)
	return reply, true, err
}

// SettleKey implements [Keys].
func (s *DB) SettleKey(ctx context.Context, key string, reply []byte) error {
	row := requestKey{Name: plain(key), Reply: base64.StdEncoding.EncodeToString(reply), Settled: true}
	return s.write(ctx, "settle an idempotency key", func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewUpdate().Model(&row).Column("reply", "settled").WherePK().Exec(ctx)
		return err
	})
}

// ReleaseKey implements [Keys]: the request failed and may be tried again.
func (s *DB) ReleaseKey(ctx context.Context, key string) error {
	return s.write(ctx, "release an idempotency key", func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewDelete().Model((*requestKey)(nil)).Where("name = ?", plain(key)).Where("NOT settled").Exec(ctx)
		return err
	})
}
