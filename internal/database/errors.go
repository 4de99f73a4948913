package database

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// What a caller decides by. Explain wraps an engine's error in one of them.
var (
	// ErrUnavailable means that the database could not do it now: it is down, shutting down, full, busy, or
	// the transaction lost against another. The same call may succeed later; whether a transaction that
	// was being committed took effect is not known.
	ErrUnavailable = errors.New("the database is not available")
	// ErrFull means that the disk behind the database is full. It is also ErrUnavailable, but trying again at
	// once is of no use: somebody has to make room.
	ErrFull = errors.New("no space left")
	// ErrUnique means that a row with this key is there already.
	ErrUnique = errors.New("already there")
	// ErrReference means that the row refers to one that is not there.
	ErrReference = errors.New("refers to what is not there")
)

// Explain says in a sentence what an error of either engine means and wraps it together with ErrUnavailable,
// ErrUnique or ErrReference where one applies. It goes by codes, never by texts. Errors that it does not
// know, and those of an ended context, are returned as they are.
func Explain(err error) error {
	var (
		connect *pgconn.ConnectError
		pg      *pgconn.PgError
		lite    *sqlite.Error
		network net.Error
	)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrUnavailable), errors.Is(err, ErrUnique), errors.Is(err, ErrReference):
		return err
	case errors.As(err, &pg): // before connect: a server that answers says more than "cannot connect"
		return explainPostgres(err, pg.Code)
	case errors.As(err, &lite):
		return explainSQLite(err, lite.Code())
	case errors.As(err, &connect):
		return explained(ErrUnavailable, "the server cannot be reached: see that it runs and that the URL names it", err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, net.ErrClosed), errors.As(err, &network), pgconn.SafeToRetry(err):
		return explained(ErrUnavailable, "the connection was lost", err)
	}
	return err
}

func explained(kind error, sentence string, err error) error {
	if sentence == "" {
		return fmt.Errorf("%w (%w)", kind, err)
	}
	return fmt.Errorf("%w: %s (%w)", kind, sentence, err)
}

// explainPostgres knows the SQLSTATE codes of PostgreSQL's documentation, appendix A.
func explainPostgres(err error, code string) error {
	switch code {
	case "23505":
		return explained(ErrUnique, "", err)
	case "23503":
		return explained(ErrReference, "", err)
	case "40001", "40P01", "55P03", "57014":
		return explained(ErrUnavailable, "another transaction was in the way, or it took too long", err)
	case "53100":
		return explained(ErrUnavailable, "the server's disk is full: free some space", fmt.Errorf("%w: %w", ErrFull, err))
	case "53200", "53400":
		return explained(ErrUnavailable, "the server has no space left: give it disk or memory", err)
	case "53300":
		return explained(ErrUnavailable, "the server has no connection left: raise max_connections or run fewer replicas", err)
	case "25006":
		return explained(ErrUnavailable, "the server is read-only, perhaps a standby: name the primary", err)
	case "28000", "28P01":
		return fmt.Errorf("the server refused the user or the password: check the URL (%w)", err)
	case "3D000":
		return fmt.Errorf("the server has no such database: create it (%w)", err)
	case "42501":
		return fmt.Errorf("the user lacks a privilege: make it the owner of the database (%w)", err)
	}
	if strings.HasPrefix(code, "08") || strings.HasPrefix(code, "57P") || strings.HasPrefix(code, "58") {
		return explained(ErrUnavailable, "the server is shutting down, starting, or failing", err)
	}
	return err
}

// explainSQLite knows the result codes of sqlite.org/rescode.html; the low byte is the primary one.
func explainSQLite(err error, code int) error {
	switch code {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID:
		return explained(ErrUnique, "", err)
	case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
		return explained(ErrReference, "", err)
	}
	switch code & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL:
		return explained(ErrUnavailable, "another process holds the file: SQLite is for one process", err)
	case sqlite3.SQLITE_FULL:
		return explained(ErrUnavailable, "the disk that holds the database is full: free some space", fmt.Errorf("%w: %w", ErrFull, err))
	case sqlite3.SQLITE_IOERR:
		if code == sqlite3.SQLITE_IOERR_WRITE || code == sqlite3.SQLITE_IOERR_SHMSIZE || code == sqlite3.SQLITE_IOERR_FSYNC || code == sqlite3.SQLITE_IOERR_TRUNCATE {
			// What a full disk, a quota or a limit on file sizes looks like to a write.
			return explained(ErrUnavailable, "the disk that holds the database fails or is full", fmt.Errorf("%w: %w", ErrFull, err))
		}
		return explained(ErrUnavailable, "the disk that holds the database fails or is full", err)
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return explained(ErrUnavailable, "the file and its directory must be writable for this user", err)
	case sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("the file is not a SQLite database: name another one (%w)", err)
	case sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("the file is damaged: restore it from a backup (%w)", err)
	}
	return err
}
