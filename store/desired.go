package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/uptrace/bun"

	"github.com/sluicekeep/sluicekeep"
)

// helm is the one row that says who steers.
type helm struct {
	bun.BaseModel `bun:"table:helm,alias:helm"`
	ID            int64 `bun:",pk"`
	Epoch         int64
	Revision      int64
}

// NextEpoch implements [Desired].
func (s *DB) NextEpoch(ctx context.Context) (int64, error) {
	row := helm{ID: 1}
	err := s.write(ctx, "begin an epoch", func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewUpdate().Model(&row).Set("epoch = epoch + 1").Set("revision = 0").
			WherePK().Returning("epoch").Exec(ctx)
		return err
	})
	return row.Epoch, err
}

// NextRevision implements [Desired]. Epoch and revision share one row, so
// that checking the one and raising the other is a single locked step.
func (s *DB) NextRevision(ctx context.Context, epoch int64) (int64, error) {
	row := helm{ID: 1}
	err := s.write(ctx, "number the desired state", func(ctx context.Context, tx bun.Tx) error {
		err := tx.NewUpdate().Model(&row).Set("revision = revision + 1").
			WherePK().Where("epoch = ?", epoch).Returning("revision").Scan(ctx)
		if errors.Is(err, sql.ErrNoRows) {
			return sluicekeep.Errorf(sluicekeep.Conflict, "restart this server",
				"another server has taken over since epoch %d", epoch)
		}
		return err
	})
	return row.Revision, err
}
