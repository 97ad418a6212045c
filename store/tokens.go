package store

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/sluicekeep/sluicekeep"
)

// token is a row; its key is the hash of kind and secret.
type token struct {
	bun.BaseModel `bun:"table:tokens,alias:t"`
	Hash          string `bun:",pk"`
	ID            string
	Kind          string
	Name          string
	Role          string
	Created       stamp
	Expires       stamp
	Data          string
}

// hashSecret binds a secret to its kind, so that one kind of token is never
// good as another. Secrets are random: a slow hash would add nothing.
func hashSecret(kind, secret string) string {
	sum := sha256.Sum256([]byte(kind + "\x00" + secret))
	return hex.EncodeToString(sum[:])
}

// PutToken implements [Tokens].
func (s *DB) PutToken(ctx context.Context, secret string, t Token) error {
	if secret == "" {
		return sluicekeep.Errorf(sluicekeep.Invalid, "make a random secret",
			"a token of kind %s has an empty secret", t.Kind)
	}
	if err := checkName("token", t.ID); err != nil {
		return err
	}
	row := token{
		Hash: hashSecret(t.Kind, secret), ID: t.ID, Kind: plain(t.Kind), Name: plain(t.Name), Role: plain(t.Role),
		Created: stampOf(t.Created), Expires: stampOf(t.Expires), Data: base64.StdEncoding.EncodeToString(t.Data),
	}
	return s.write(ctx, "save a token", func(ctx context.Context, tx bun.Tx) error {
		q := tx.NewInsert().Model(&row).On("CONFLICT (hash) DO UPDATE")
		for _, col := range []string{"id", "name", "role", "created", "expires", "data"} {
			q = q.Set("? = EXCLUDED.?", bun.Ident(col), bun.Ident(col))
		}
		_, err := q.Exec(ctx)
		return err
	})
}

// Token implements [Tokens].
func (s *DB) Token(ctx context.Context, kind, secret string, now time.Time) (Token, error) {
	var row token
	err := s.bun.NewSelect().Model(&row).Where("hash = ?", hashSecret(kind, secret)).
		Where("expires = 0 OR expires > ?", stampOf(now)).Scan(ctx)
	if err != nil {
		return Token{}, s.failed("look up a token", missing(err, "ask for a new one", "the token is unknown or its time is over"))
	}
	return row.public()
}

// TakeToken implements [Tokens].
func (s *DB) TakeToken(ctx context.Context, kind, secret string, now time.Time) (Token, error) {
	var row token
	err := s.write(ctx, "take a token", func(ctx context.Context, tx bun.Tx) error {
		err := tx.NewDelete().Model(&row).Where("hash = ?", hashSecret(kind, secret)).
			Where("expires = 0 OR expires > ?", stampOf(now)).Returning("*").Scan(ctx)
		return missing(err, "ask for a new one", "the token is unknown, was used, or its time is over")
	})
	if err != nil {
		return Token{}, err
	}
	return row.public()
}

// public turns a row into the public word.
func (r token) public() (Token, error) {
	data, err := base64.StdEncoding.DecodeString(r.Data)
	if len(data) == 0 {
		data = nil
	}
	return Token{
		ID: r.ID, Kind: r.Kind, Name: r.Name, Role: r.Role,
		Created: r.Created.time(), Expires: r.Expires.time(), Data: data,
	}, err
}

// DeleteToken implements [Tokens].
func (s *DB) DeleteToken(ctx context.Context, id string) error {
	return s.write(ctx, "end a token", func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewDelete().Model((*token)(nil)).Where("id = ?", plain(id)).Exec(ctx)
		return err
	})
}

// Tokens implements [Tokens].
func (s *DB) Tokens(ctx context.Context, kind string) ([]Token, error) {
	var rows []token
	err := s.bun.NewSelect().Model(&rows).Where("kind = ?", plain(kind)).Order("created DESC", "id").Scan(ctx)
	out := make([]Token, len(rows))
	for i, r := range rows {
		t, bad := r.public()
		out[i], err = t, errors.Join(err, bad)
	}
	return out, s.failed("list the tokens", err)
}

// Sessions keeps web sessions. It fits the store interfaces of
// github.com/alexedwards/scs/v2, with and without a context.
type Sessions struct{ db *DB }

// Sessions returns the web sessions of s.
func (s *DB) Sessions() Sessions { return Sessions{s} }

// sessionKind keeps cookies apart from every other kind of secret.
const sessionKind = "web"

// FindCtx returns the data of a session that has not expired.
func (s Sessions) FindCtx(ctx context.Context, secret string) (data []byte, found bool, err error) {
	t, err := s.db.Token(ctx, sessionKind, secret, time.Now())
	var said *sluicekeep.Error
	if errors.As(err, &said) && said.Kind == sluicekeep.NotFound {
		return nil, false, nil
	}
	return t.Data, err == nil, err
}

// CommitCtx stores the data of a session until it expires.
func (s Sessions) CommitCtx(ctx context.Context, secret string, data []byte, expiry time.Time) error {
	return s.db.PutToken(ctx, secret, Token{
		ID: hashSecret(sessionKind, secret)[:32], Kind: sessionKind, Created: time.Now(), Expires: expiry, Data: data,
	})
}

// DeleteCtx ends a session.
func (s Sessions) DeleteCtx(ctx context.Context, secret string) error {
	return s.db.DeleteToken(ctx, hashSecret(sessionKind, secret)[:32])
}

// Find is FindCtx without a context.
func (s Sessions) Find(secret string) ([]byte, bool, error) {
	return s.FindCtx(context.Background(), secret)
}

// Commit is CommitCtx without a context.
func (s Sessions) Commit(secret string, data []byte, expiry time.Time) error {
	return s.CommitCtx(context.Background(), secret, data, expiry)
}

// Delete is DeleteCtx without a context.
func (s Sessions) Delete(secret string) error { return s.DeleteCtx(context.Background(), secret) }
