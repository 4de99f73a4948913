package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/noxaudit/noxaudit/internal/name"
)

// Sessions belong to no account: a person signs in to the deployment, once, and may have roles in several accounts.
// They are therefore the tenant name.Deployment's, and only its methods find any. What an account's owner may know of
// them is asked for by that account (SessionsReaching).

// Limits of sessions.
const (
	MaxGrantBytes    = 1 << 20 // of Session.Grants
	MaxSealedBytes   = 4 << 10 // of Session.Sealed
	MaxSessionsEnded = 500     // in one change
)

// Session is a person's sign-in in one browser. A row whose time is over (Until) stays until it is pruned; whoever
// reads one looks at the time.
type Session struct {
	ID       string         // for lists and the ledger; it opens nothing
	Hash     string         // SHA-256 of the browser's token, in hexadecimal: the token itself is kept nowhere
	Flow     string         // names the sign-in that made it: a second session of one sign-in is ErrDuplicate
	Source   string         // who vouches for the person: "github"
	Person   int64          // numeric id
	Login    string         // clipped at 1,024 bytes
	Accounts []name.Account // in which the person has a role
	Grants   []byte         // the roles in full; opaque here
	Sealed   []byte         // what rights are asked for with, encrypted by the caller; opaque here
	Agent    string         // what the browser calls itself; of outside origin, clipped at 1,024 bytes
	Created  time.Time
	Seen     time.Time // used last, to about a minute
	Checked  time.Time // when Grants were learnt
	Until    time.Time // over at, unless used before; never after Ends
	Ends     time.Time // over at, however much used
}

// SessionChange is what happens to sessions in one change. Only the tenant name.Deployment takes one.
type SessionChange struct {
	Open   *Session       // a new one
	Rights *SessionRights // one whose person's rights have changed
	End    []string       // ids; ErrNotFound when one is not there
}

// SessionRights are new rights of a session's person. ErrNotFound when the session is gone.
type SessionRights struct {
	ID       string
	Login    string
	Accounts []name.Account
	Grants   []byte
	Checked  time.Time
}

func (c Change) checkSessions(account name.Account, key func(what, s string, most int)) error {
	s := c.Sessions
	if s == nil {
		return nil
	}
	if account != name.Deployment {
		return invalid("sessions belong to the deployment, not to an account")
	}
	if len(s.End) > MaxSessionsEnded {
		return &TooLargeError{Noun: "sessions to end", Got: len(s.End), Most: MaxSessionsEnded}
	}
	for _, id := range s.End {
		key("the id of a session", id, 64)
	}
	rights := func(login string, accounts []name.Account, grants []byte, checked time.Time) error {
		key("the login of a session's person", login, 256)
		for _, a := range accounts {
			key("the account of a session", a.String(), 32)
		}
		switch {
		case len(grants) > MaxGrantBytes:
			return &TooLargeError{Noun: "bytes of a person's rights", Got: len(grants), Most: MaxGrantBytes}
		case checked.IsZero():
			return invalid("the time of a session's rights is missing")
		}
		return nil
	}
	if r := s.Rights; r != nil {
		key("the id of a session", r.ID, 64)
		if err := rights(r.Login, r.Accounts, r.Grants, r.Checked); err != nil {
			return err
		}
	}
	o := s.Open
	if o == nil {
		return nil
	}
	key("the id of a session", o.ID, 64)
	key("the sign-in of a session", o.Flow, 128)
	key("the source of a session", o.Source, 64)
	if h, err := hex.DecodeString(o.Hash); err != nil || len(h) != 32 || strings.ToLower(o.Hash) != o.Hash {
		return invalid("the hash of a session is not a SHA-256 in hexadecimal")
	}
	switch {
	case o.Person <= 0:
		return invalid("the person of a session is missing")
	case len(o.Sealed) > MaxSealedBytes:
		return &TooLargeError{Noun: "sealed bytes of a session", Got: len(o.Sealed), Most: MaxSealedBytes}
	case o.Created.IsZero() || o.Seen.IsZero() || !o.Until.After(o.Created) || o.Until.After(o.Ends):
		return invalid("the times of a session are not in order")
	}
	return rights(o.Login, o.Accounts, o.Grants, o.Checked)
}

// listedAccounts is how accounts stand in their column: each between commas, so that one can be looked for.
func listedAccounts(accounts []name.Account) string {
	var b strings.Builder
	b.WriteByte(',')
	for _, a := range accounts {
		b.WriteString(a.String() + ",")
	}
	return b.String()
}

const sessionColumns = `id, hash, flow, source, person, login, accounts, grants, sealed, agent, created_at, seen_at, checked_at, until_at, ends_at`

func (t *Tenant) sessions(ctx context.Context, statement string, args ...any) ([]Session, error) {
	var out []Session
	err := t.query(ctx, "session", func(rows *sql.Rows) error {
		var s Session
		var accounts string
		var at [5]int64
		if err := rows.Scan(&s.ID, &s.Hash, &s.Flow, &s.Source, &s.Person, &s.Login, &accounts, &s.Grants, &s.Sealed, &s.Agent,
			&at[0], &at[1], &at[2], &at[3], &at[4]); err != nil {
			return err
		}
		for _, id := range strings.FieldsFunc(accounts, func(r rune) bool { return r == ',' }) {
			a, err := name.ParseAccount(id)
			if err != nil {
				return &CorruptError{Noun: "session", Key: s.ID, Cause: err}
			}
			s.Accounts = append(s.Accounts, a)
		}
		for i, to := range []*time.Time{&s.Created, &s.Seen, &s.Checked, &s.Until, &s.Ends} {
			*to = fromMicros(at[i])
		}
		out = append(out, s)
		return nil
	}, statement, args...)
	return out, err
}

// Session is the session of the token with this hash, also when its time is over, or ErrNotFound.
func (t *Tenant) Session(ctx context.Context, hash string) (Session, error) {
	all, err := t.sessions(ctx, `SELECT `+sessionColumns+` FROM session WHERE account = $1 AND hash = $2`, hash)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("session: %w", ErrNotFound)
	}
	if err != nil {
		return Session{}, err
	}
	return all[0], nil
}

// SessionByID is the session of an id, also when its time is over, or ErrNotFound.
func (t *Tenant) SessionByID(ctx context.Context, id string) (Session, error) {
	all, err := t.sessions(ctx, `SELECT `+sessionColumns+` FROM session WHERE account = $1 AND id = $2`, column(id))
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("session: %w", ErrNotFound)
	}
	if err != nil {
		return Session{}, err
	}
	return all[0], nil
}

// SessionsOf are a person's sessions whose time is not over, oldest first.
func (t *Tenant) SessionsOf(ctx context.Context, person int64, now time.Time) ([]Session, error) {
	return t.sessions(ctx, `SELECT `+sessionColumns+` FROM session WHERE account = $1 AND person = $2 AND until_at > $3 ORDER BY created_at, id`,
		person, now.UnixMicro())
}

// SessionsReaching are sessions whose person has a role in an account and whose time is not over, by id, at most limit
// of them beginning after an id ("" for the first). Grants and Sealed are left out: they tell of other accounts too.
func (t *Tenant) SessionsReaching(ctx context.Context, account name.Account, now time.Time, after string, limit int) ([]Session, error) {
	if account.IsZero() {
		return nil, ErrNoAccount
	}
	all, err := t.sessions(ctx, `SELECT `+sessionColumns+` FROM session
		WHERE account = $1 AND accounts LIKE $2 AND until_at > $3 AND id > $4 ORDER BY id LIMIT $5`,
		"%,"+account.String()+",%", now.UnixMicro(), after, max(limit, 0))
	for i := range all {
		all[i].Grants, all[i].Sealed, all[i].Accounts = nil, nil, []name.Account{account}
	}
	return all, err
}

// SessionSeen notes that a session was used. Times only move forward, and Until not beyond the session's end. It
// needs no entry: nothing is decided. A session that is gone is no error.
func (t *Tenant) SessionSeen(ctx context.Context, id string, seen, until time.Time) error {
	return t.write(ctx, "session", func(w *writer) error {
		_, err := w.exec(ctx, "session", `UPDATE session SET seen_at = $3,
			until_at = CASE WHEN CAST($4 AS BIGINT) > ends_at THEN ends_at ELSE $4 END
			WHERE account = $1 AND id = $2 AND seen_at < $3 AND until_at < $4 AND until_at > $3`, id, seen.UnixMicro(), until.UnixMicro())
		return err
	})
}

// SessionChecked notes that a session's rights were asked for again and are what they were. It needs no entry. A
// session that is gone is no error.
func (t *Tenant) SessionChecked(ctx context.Context, id string, at time.Time) error {
	return t.write(ctx, "session", func(w *writer) error {
		_, err := w.exec(ctx, "session", `UPDATE session SET checked_at = $3 WHERE account = $1 AND id = $2 AND checked_at < $3`, id, at.UnixMicro())
		return err
	})
}

// PruneSessions removes up to limit sessions whose time is over, and returns how many. It needs no entry: they were
// over before.
func (t *Tenant) PruneSessions(ctx context.Context, now time.Time, limit int) (pruned int, err error) {
	var over [][]any
	err = t.query(ctx, "session", func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		over = append(over, []any{id})
		return err
	}, `SELECT id FROM session WHERE account = $1 AND until_at <= $2 ORDER BY until_at, id LIMIT $3`, now.UnixMicro(), max(limit, 0))
	if err != nil || len(over) == 0 {
		return 0, err
	}
	slices.SortFunc(over, func(a, b []any) int { return strings.Compare(a[0].(string), b[0].(string)) })
	err = t.write(ctx, "session", func(w *writer) error {
		// One that was used meanwhile, or was pruned by somebody else, is passed over.
		pruned, err = w.listed(ctx, "session", `DELETE FROM session WHERE account = $1 AND until_at <= $2 AND id IN (VALUES %s)`,
			[]any{now.UnixMicro()}, over)
		return err
	})
	return pruned, err
}
