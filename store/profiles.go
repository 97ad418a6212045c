package store

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/sluicekeep/sluicekeep"
)

// scanGap is the longest pause between two saves that still counts as looking
// all the time; it bounds how exact LastSeen of a past moment is.
const scanGap = time.Minute

// asset is when an asset was last looked at. Generation grows with every
// change of its spans and tells a process that its memory of them is old.
type asset struct {
	bun.BaseModel `bun:"table:assets,alias:asset"`
	Name          string `bun:",pk"`
	Generation    int64
	Seen          stamp
}

// SaveProfiles implements [Ports].
func (s *DB) SaveProfiles(
	ctx context.Context, at time.Time, profiles []sluicekeep.Profile, assets ...string,
) error {
	scope, err := byAsset(profiles, assets)
	if err != nil {
		return err
	}
	saved := map[string]*present{}
	err = s.write(ctx, "save the ports table", func(ctx context.Context, tx bun.Tx) error {
		clear(saved)
		for _, name := range slices.Sorted(maps.Keys(scope)) { // one order, so that two savers never deadlock
			p, err := s.saveAsset(ctx, tx, asset{Name: name, Seen: stampOf(at)}, scope[name])
			if err != nil {
				return err
			}
			saved[name] = p
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(s.present, saved)
	return nil
}

// byAsset groups profiles by asset; assets that were looked at without finding
// a port are there with none.
func byAsset(profiles []sluicekeep.Profile, assets []string) (map[string][]sluicekeep.Profile, error) {
	scope := map[string][]sluicekeep.Profile{}
	for _, name := range assets {
		scope[name] = nil
	}
	for _, p := range profiles {
		scope[p.Asset] = append(scope[p.Asset], p)
	}
	for name := range scope {
		if err := checkName("asset", name); err != nil {
			return nil, err
		}
	}
	return scope, nil
}

// saveAsset writes what changed on one asset and returns what is present now.
func (s *DB) saveAsset(ctx context.Context, tx bun.Tx, a asset, ps []sluicekeep.Profile) (*present, error) {
	// The upsert also locks the row: savers of one asset take turns.
	_, err := tx.NewInsert().Model(&a).On("CONFLICT (name) DO UPDATE").
		Set("seen = CASE WHEN EXCLUDED.seen > asset.seen THEN EXCLUDED.seen ELSE asset.seen END").
		Returning("generation, seen").Exec(ctx)
	if err != nil {
		return nil, err
	}
	old, err := s.presentOf(ctx, tx, a)
	if err != nil {
		return nil, err
	}
	d, err := old.compare(ps)
	if err != nil {
		return nil, err
	}
	now := old
	if !d.empty() {
		if now, err = d.apply(ctx, tx, a, old); err != nil {
			return nil, err
		}
	}
	return now, cover(ctx, tx, coverage{scanTopic(a.Name), a.Seen, a.Seen}, scanGap)
}

// scanTopic names the coverage of the ports of an asset.
func scanTopic(asset string) string { return "scan/" + asset }

// Profiles implements [Ports].
func (s *DB) Profiles(ctx context.Context, asOf time.Time) ([]sluicekeep.Profile, error) {
	var spans []span
	q := s.bun.NewSelect().Model(&spans).Column("asset", "body", "first_seen", "from_at")
	if asOf.IsZero() {
		q = q.Where("until_at = ?", forever)
	} else {
		q = q.Where("from_at <= ?", stampOf(asOf)).Where("until_at > ?", stampOf(asOf))
	}
	if err := q.Scan(ctx); err != nil {
		return nil, s.failed("read the ports table", err)
	}
	seen, err := s.lastSeen(ctx, asOf)
	if err != nil {
		return nil, s.failed("read the ports table", err)
	}
	out := make([]sluicekeep.Profile, len(spans))
	for i, sp := range spans {
		if err := sp.profile(&out[i], seen[sp.Asset]); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(out, compareProfiles)
	return out, nil
}

// lastSeen returns when each asset was last looked at, up to asOf.
func (s *DB) lastSeen(ctx context.Context, asOf time.Time) (map[string]stamp, error) {
	seen := map[string]stamp{}
	var assets []asset
	if err := s.bun.NewSelect().Model(&assets).Scan(ctx); err != nil {
		return nil, err
	}
	for _, a := range assets {
		seen[a.Name] = a.Seen
		if asOf.IsZero() || a.Seen <= stampOf(asOf) {
			continue
		}
		last, err := lastCovered(ctx, s.bun, scanTopic(a.Name), stampOf(asOf))
		if err != nil {
			return nil, err
		}
		seen[a.Name] = last
	}
	return seen, nil
}

// compareProfiles sorts in Go, because databases sort text by their locale.
func compareProfiles(a, b sluicekeep.Profile) int {
	return cmp.Or(
		cmp.Compare(a.Asset, b.Asset), cmp.Compare(a.Number, b.Number),
		cmp.Compare(a.Transport, b.Transport), a.Address.Compare(b.Address),
	)
}
