package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/noxaudit/noxaudit/internal/database"
	"github.com/noxaudit/noxaudit/internal/name"
)

// All statements of a tenant run through the functions of this file, which put the account in front of the
// arguments: $1 is the account in every one of them. A test reads the package's source and fails when a
// statement takes another way or does not use $1.

// query runs a SELECT on the reading pool and hands each row to scan.
func (t *Tenant) query(ctx context.Context, noun string, scan func(*sql.Rows) error, statement string, args ...any) error {
	if t.account.IsZero() {
		return ErrNoAccount
	}
	return each(ctx, t.db.Read, noun, scan, statement, prepend(t.account.String(), args))
}

// get is query for at most one row; it reports whether there was one.
func (t *Tenant) get(ctx context.Context, noun string, dest []any, statement string, args ...any) (found bool, err error) {
	err = t.query(ctx, noun, func(rows *sql.Rows) error {
		found = true
		return rows.Scan(dest...)
	}, statement, args...)
	return found, err
}

func each(ctx context.Context, db querier, noun string, scan func(*sql.Rows) error, statement string, args []any) error {
	rows, err := db.QueryContext(ctx, statement, args...)
	if err != nil {
		return fail(noun, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err == errEnough {
			return fail(noun, rows.Close())
		} else if err != nil {
			return fail(noun, err)
		}
	}
	return fail(noun, rows.Err())
}

// everywhere runs a query over all tenants, which only the methods of Store do that look for work: its rows are
// an account and so many texts more. A test lists these queries.
func (s *Store) everywhere(ctx context.Context, noun string, scan func(account name.Account, rest []string) error, more int, statement string, args ...any) error {
	texts := make([]string, 1+more)
	dest := make([]any, len(texts))
	for i := range texts {
		dest[i] = &texts[i]
	}
	return each(ctx, s.db.Read, noun, func(rows *sql.Rows) error {
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		account, err := name.ParseAccount(texts[0])
		if err != nil {
			return &CorruptError{Noun: noun, Key: texts[0], Cause: err}
		}
		return scan(account, texts[1:])
	}, statement, args)
}

// errEnough is returned by a scan that wants no more rows.
var errEnough = errors.New("enough")

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// write runs work in one transaction on the writing pool. work is this package's own code, never a caller's.
func (t *Tenant) write(ctx context.Context, noun string, work func(*writer) error) error {
	if t.account.IsZero() {
		return ErrNoAccount
	}
	tx, err := t.db.Write.BeginTx(ctx, nil)
	if err != nil {
		return fail(noun, err)
	}
	defer tx.Rollback() // after Commit it does nothing; before, its own error adds nothing to work's
	err = work(&writer{tx: tx, engine: t.db.Engine, account: t.account.String()})
	if err == nil {
		err = tx.Commit()
	}
	if errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil {
		err = ctx.Err() // database/sql rolls back on its own when the context ends
	}
	if err != nil && ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		err = fmt.Errorf("%w: %w", ctx.Err(), err) // SQLite only says that it was interrupted
	}
	return fail(noun, err)
}

// writer is a transaction of one tenant.
type writer struct {
	tx      *sql.Tx
	engine  database.Engine
	account string
}

// exec runs one statement and returns how many rows it touched.
func (w *writer) exec(ctx context.Context, noun, statement string, args ...any) (int, error) {
	res, err := w.tx.ExecContext(ctx, statement, prepend(w.account, args)...)
	n, err := add(0, res, err)
	return n, fail(noun, err)
}

// query runs a statement that returns rows inside the transaction.
func (w *writer) query(ctx context.Context, noun string, scan func(*sql.Rows) error, statement string, args ...any) error {
	return each(ctx, w.tx, noun, scan, statement, prepend(w.account, args))
}

// tuples runs a statement on many rows, as many at a time as suit the engine, and returns how many it
// touched. In the statement "%s" stands for the tuples; each begins with the account and the shared values
// ($1, $2, …), which the statement may also use elsewhere, and goes on with its row.
func (w *writer) tuples(ctx context.Context, noun, statement string, shared []any, rows [][]any) (int, error) {
	return w.rows(ctx, noun, statement, true, shared, rows)
}

// listed is tuples where a tuple is the row alone, for IN lists and for VALUES that are joined.
func (w *writer) listed(ctx context.Context, noun, statement string, shared []any, rows [][]any) (int, error) {
	return w.rows(ctx, noun, statement, false, shared, rows)
}

func (w *writer) rows(ctx context.Context, noun, statement string, lead bool, shared []any, rows [][]any) (touched int, err error) {
	if len(rows) == 0 {
		return 0, nil
	}
	shared = prepend(w.account, shared)
	most := batch(w.engine, len(rows[0]))
	var full *sql.Stmt // of a full batch: where there are several, it is compiled once
	for part := range slices.Chunk(rows, most) {
		args := slices.Clone(shared)
		for _, r := range part {
			args = append(args, r...)
		}
		if full == nil || len(part) < most {
			text := fmt.Sprintf(statement, placeholders(lead, len(shared), len(part), part[0]))
			if len(rows) < 2*most || len(part) < most {
				res, err := w.tx.ExecContext(ctx, text, args...)
				if touched, err = add(touched, res, err); err != nil {
					return touched, fail(noun, err)
				}
				continue
			}
			if full, err = w.tx.PrepareContext(ctx, text); err != nil {
				return touched, fail(noun, err)
			}
			defer full.Close()
		}
		res, err := full.ExecContext(ctx, args...)
		if touched, err = add(touched, res, err); err != nil {
			return touched, fail(noun, err)
		}
	}
	return touched, nil
}

func add(touched int, res sql.Result, err error) (int, error) {
	if err != nil {
		return touched, err
	}
	n, err := res.RowsAffected()
	return touched + int(n), err
}

// batch is how many rows go in one statement. For PostgreSQL a statement is a round trip, so many do. SQLite
// has no round trip, and the time in which its driver binds n parameters grows with n², so few do.
func batch(engine database.Engine, columns int) int {
	if engine == database.Postgres {
		return max(1, 4000/columns)
	}
	return max(1, 32/columns)
}

// placeholders writes "($1, $2, $3), ($1, $4, $5)": n tuples. Whole numbers are cast, since a VALUES list
// that is joined, unlike one that is inserted, has no column to take a type from.
func placeholders(lead bool, shared, n int, row []any) string {
	var head []string
	if lead {
		for i := range shared {
			head = append(head, "$"+strconv.Itoa(i+1))
		}
	}
	next := shared
	tuples := make([]string, n)
	for i := range tuples {
		tuple := slices.Clone(head)
		for _, v := range row {
			next++
			p := "$" + strconv.Itoa(next)
			if _, whole := v.(int64); whole {
				p = "CAST(" + p + " AS BIGINT)"
			}
			tuple = append(tuple, p)
		}
		tuples[i] = "(" + strings.Join(tuple, ", ") + ")"
	}
	return strings.Join(tuples, ", ")
}

func prepend(account string, args []any) []any {
	return append([]any{account}, args...)
}
