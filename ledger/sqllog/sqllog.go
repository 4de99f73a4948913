// Package sqllog keeps the ledger in a database of its own, SQLite or PostgreSQL. It stores bytes: what a log
// is, and whether one is whole, package ledger decides. The statements are the same on both engines.
package sqllog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/noxaudit/noxaudit/internal/database"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/ledger"
	migrations "github.com/noxaudit/noxaudit/migrations/ledger"
)

// Log is the database of a deployment's logs, one for each account and one for the deployment itself.
type Log struct {
	db         *database.DB
	deployment string
}

// deploymentAccount is the tenant of what belongs to no account: name.Deployment.
const deploymentAccount = "deployment"

// Open opens the database at dsn ("postgres://…" or the path of a SQLite file) and brings its schema up to
// date. deployment names the installation in the origin of every log and must never change: letters, digits,
// dots, hyphens and underscores.
func Open(ctx context.Context, dsn, deployment string) (*Log, error) {
	return openWith(ctx, database.Open, dsn, deployment)
}

// OpenReadOnly opens the database to verify it: it makes and changes nothing, and needs no right to. A database
// whose schema is not this program's is refused with a sentence.
func OpenReadOnly(ctx context.Context, dsn, deployment string) (*Log, error) {
	return openWith(ctx, database.OpenReadOnly, dsn, deployment)
}

func openWith(ctx context.Context, how func(context.Context, string, fs.FS, string) (*database.DB, error), dsn, deployment string) (*Log, error) {
	if !validDeployment(deployment) {
		return nil, fmt.Errorf("ledger: the deployment's name %q: want 1 to 100 letters, digits, dots, hyphens, underscores", deployment)
	}
	db, err := how(ctx, dsn, migrations.FS, "ledger_version")
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	return &Log{db: db, deployment: deployment}, nil
}

func validDeployment(s string) bool {
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune(".-_", c) {
			return false
		}
	}
	return s != "" && len(s) <= 100
}

// Close closes the database.
func (l *Log) Close() error { return l.db.Close() }

// For is the log of an account. It is made when its first entry is to be written.
func (l *Log) For(a name.Account) *Tenant { return l.tenant(a.String()) }

// Deployment is the log of the deployment itself.
func (l *Log) Deployment() *Tenant { return l.tenant(deploymentAccount) }

func (l *Log) tenant(account string) *Tenant {
	return &Tenant{db: l.db, account: account, origin: ledger.Origin(l.deployment, account)}
}

// Accounts lists the accounts that have a log, in order, name.Deployment among them. An account counts that stands
// in any table: each of them alone could be cleaned to hide it.
func (l *Log) Accounts(ctx context.Context) ([]name.Account, error) {
	accounts, err := l.accounts(ctx)
	if err != nil {
		return nil, fmt.Errorf("ledger: accounts: %w", database.Explain(err))
	}
	return accounts, nil
}

func (l *Log) accounts(ctx context.Context) ([]name.Account, error) {
	// In entry, by far the largest table, it goes from one account to the next by the key.
	rows, err := l.db.Read.QueryContext(ctx, `WITH RECURSIVE holder (account) AS (
			SELECT MIN(account) FROM entry
			UNION ALL
			SELECT (SELECT MIN(account) FROM entry WHERE account > holder.account) FROM holder WHERE holder.account IS NOT NULL
		)
		SELECT account FROM holder WHERE account IS NOT NULL
		UNION SELECT account FROM log UNION SELECT account FROM checkpoint
		UNION SELECT account FROM signer_state UNION SELECT account FROM source_head ORDER BY account`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var accounts []name.Account
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		a, err := name.ParseAccount(text)
		if err != nil {
			return nil, err
		}
		accounts = append(accounts, a)
	}
	return accounts, rows.Err()
}

// ErrOrigin says that a log was begun by another deployment than it is opened for.
var ErrOrigin = errors.New("another deployment's log")

// Tenant is one log. It implements ledger.Log and ledger.SignedLog. Every statement names its account.
type Tenant struct {
	db      *database.DB
	account string
	origin  string
}

var (
	_ ledger.Log       = (*Tenant)(nil)
	_ ledger.SignedLog = (*Tenant)(nil)
)

// Origin implements ledger.Log.
func (t *Tenant) Origin() string { return t.origin }

func (t *Tenant) fail(what string, err error) error {
	return fmt.Errorf("ledger of account %s: %s: %w", t.account, what, database.Explain(err))
}

// begin starts a transaction that is durable once it is committed, also where the server does not wait for its
// disk by default: a checkpoint must never cover what may be lost, and an epoch must never be given twice. A
// server that waits for more than its own disk goes on doing so.
func (t *Tenant) begin(ctx context.Context) (*sql.Tx, error) {
	tx, err := t.db.Write.BeginTx(ctx, nil)
	if err != nil || t.db.Engine != database.Postgres {
		return tx, err
	}
	if _, err := tx.ExecContext(ctx, `SELECT set_config('synchronous_commit', 'on', true)
		WHERE current_setting('synchronous_commit') = 'off'`); err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	return tx, nil
}

// Claim implements ledger.Log. It refuses a log that was begun under another origin.
func (t *Tenant) Claim(ctx context.Context) (uint64, error) {
	tx, err := t.begin(ctx)
	if err != nil {
		return 0, t.fail("claim", err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, `INSERT INTO log (account, origin, writer_epoch, size) VALUES ($1, $2, 0, 0)
		ON CONFLICT (account) DO NOTHING`, t.account, t.origin); err != nil {
		return 0, t.fail("claim", err)
	}
	var epoch uint64
	var origin string
	if err := tx.QueryRowContext(ctx, `UPDATE log SET writer_epoch = writer_epoch + 1 WHERE account = $1
		RETURNING writer_epoch, origin`, t.account).Scan(&epoch, &origin); err != nil {
		return 0, t.fail("claim", err)
	}
	if origin != t.origin {
		return 0, fmt.Errorf("ledger of account %s: %w: begun as %q, opened as %q: the deployment's name must stay the same", t.account, ErrOrigin, origin, t.origin)
	}
	if err := tx.Commit(); err != nil {
		return 0, t.fail("claim", err)
	}
	return epoch, nil
}

// State implements ledger.Log. The end of the log is read from its entries.
func (t *Tenant) State(ctx context.Context, sources []string) (ledger.State, error) {
	s := ledger.State{Sources: make(map[string]uint64, len(sources))}
	var seq uint64
	var line []byte
	err := t.db.Read.QueryRowContext(ctx, `SELECT seq, line FROM entry WHERE account = $1 ORDER BY seq DESC LIMIT 1`, t.account).Scan(&seq, &line)
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return ledger.State{}, t.fail("read", err)
	default:
		s.Size, s.Head = seq+1, ledger.LineHash(line)
	}
	err = inChunks(sources, func(chunk []string) error {
		rows, err := t.db.Read.QueryContext(ctx, `SELECT source, last_sseq FROM source_head WHERE account = $1 AND source IN (`+
			list(2, len(chunk))+`)`, args(t.account, chunk)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var source string
			var last uint64
			if err := rows.Scan(&source, &last); err != nil {
				return err
			}
			s.Sources[source] = last
		}
		return rows.Err()
	})
	if err != nil {
		return ledger.State{}, t.fail("sources", err)
	}
	return s, nil
}

// Find implements ledger.Log.
func (t *Tenant) Find(ctx context.Context, ids []string) (map[string]ledger.Found, error) {
	found := make(map[string]ledger.Found, len(ids))
	err := inChunks(ids, func(chunk []string) error {
		rows, err := t.db.Read.QueryContext(ctx, `SELECT i.id, e.seq, e.line FROM entry_id i
			JOIN entry e ON e.account = i.account AND e.seq = i.seq
			WHERE i.account = $1 AND i.id IN (`+list(2, len(chunk))+`)`, args(t.account, chunk)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id string
			var f ledger.Found
			if err := rows.Scan(&id, &f.Seq, &f.Line); err != nil {
				return err
			}
			found[id] = f
		}
		return rows.Err()
	})
	if err != nil {
		return nil, t.fail("find", err)
	}
	return found, nil
}

// Hashes implements ledger.HashReader. A node is stored with the entry that completed it.
func (t *Tenant) Hashes(ctx context.Context, indexes []int64) ([]ledger.Hash, error) {
	seqs := make([]int64, len(indexes))
	levels := make([]int, len(indexes))
	for i, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		seqs[i], levels[i] = (n+1)<<level-1, level
	}
	stored := make(map[int64][]byte, len(seqs))
	err := inChunks(seqs, func(chunk []int64) error {
		rows, err := t.db.Read.QueryContext(ctx, `SELECT seq, hashes FROM entry WHERE account = $1 AND seq IN (`+
			list(2, len(chunk))+`)`, args(t.account, chunk)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var seq int64
			var hashes []byte
			if err := rows.Scan(&seq, &hashes); err != nil {
				return err
			}
			stored[seq] = hashes
		}
		return rows.Err()
	})
	if err != nil {
		return nil, t.fail("tree", err)
	}
	out := make([]ledger.Hash, len(indexes))
	for i, seq := range seqs {
		from := levels[i] * tlog.HashSize
		if len(stored[seq]) < from+tlog.HashSize {
			return nil, fmt.Errorf("ledger of account %s: tree: the node at level %d of entry %d is missing", t.account, levels[i], seq)
		}
		copy(out[i][:], stored[seq][from:])
	}
	return out, nil
}

// Append implements ledger.Log.
func (t *Tenant) Append(ctx context.Context, b ledger.Batch) error {
	tx, err := t.begin(ctx)
	if err != nil {
		return t.fail("append", err)
	}
	defer tx.Rollback()
	most := rowsPerInsert(t.db.Engine)
	// The first statement fences: it locks the row, and matches only for the latest writer at the end it knows.
	if err := one(tx.ExecContext(ctx, `UPDATE log SET size = $1 WHERE account = $2 AND writer_epoch = $3 AND size = $4`,
		b.From+uint64(len(b.Entries)), t.account, b.Epoch, b.From)); err != nil {
		return t.fail("append", t.refused(ctx, tx, b, err))
	}
	if err := insert(ctx, tx, most, `INSERT INTO entry (account, seq, prev, hashes, line) VALUES `, 5, len(b.Entries), ``,
		func(i int, row []any) {
			e := &b.Entries[i]
			row[0], row[1], row[2], row[3], row[4] = t.account, e.Seq, e.Prev[:], e.Hashes, e.Line
		}); err != nil {
		return t.fail("append", err)
	}
	if err := insert(ctx, tx, most, `INSERT INTO entry_id (account, id, seq) VALUES `, 3, len(b.Entries), ``,
		func(i int, row []any) {
			e := &b.Entries[i]
			row[0], row[1], row[2] = t.account, e.ID, e.Seq
		}); err != nil {
		return t.fail("append", err)
	}
	sources := make([]string, 0, len(b.Sources))
	for source := range b.Sources {
		sources = append(sources, source)
	}
	if err := insert(ctx, tx, most, `INSERT INTO source_head (account, source, last_sseq) VALUES `, 3, len(sources),
		` ON CONFLICT (account, source) DO UPDATE SET last_sseq = excluded.last_sseq`,
		func(i int, row []any) {
			row[0], row[1], row[2] = t.account, sources[i], b.Sources[sources[i]]
		}); err != nil {
		return t.fail("append", err)
	}
	if err := tx.Commit(); err != nil {
		return t.fail("append", err)
	}
	return nil
}

// refused tells entries that were removed from a writer that was replaced: both make an append miss its end.
func (t *Tenant) refused(ctx context.Context, tx *sql.Tx, b ledger.Batch, cause error) error {
	if !errors.Is(cause, ledger.ErrFenced) {
		return cause
	}
	var epoch, size uint64
	if err := tx.QueryRowContext(ctx, `SELECT writer_epoch, size FROM log WHERE account = $1`, t.account).Scan(&epoch, &size); err != nil || epoch != b.Epoch {
		return cause
	}
	return &ledger.Tampered{Seq: min(size, b.From), Layer: ledger.LayerSize,
		Detail: fmt.Sprintf("%d entries were appended and %d are there", size, b.From)}
}

// page is how many entries one query of Lines reads. A query that stayed open over a whole log would hold old
// pages on SQLite and old rows on PostgreSQL; the log only grows, so pages read one after another agree.
const page = 2048

// Lines implements ledger.SignedLog. A missing entry is not noticed here: the next one is yielded in its place.
func (t *Tenant) Lines(ctx context.Context, from, to uint64) iter.Seq2[ledger.Stored, error] {
	return func(yield func(ledger.Stored, error) bool) {
		for at := from; at < to; {
			next, goOn, err := t.page(ctx, at, to, yield)
			if err != nil {
				yield(ledger.Stored{}, t.fail("read", err))
				return
			}
			if !goOn {
				return
			}
			at = next
		}
	}
}

// page yields one page and returns where the next begins, or that there is none.
func (t *Tenant) page(ctx context.Context, from, to uint64, yield func(ledger.Stored, error) bool) (next uint64, goOn bool, err error) {
	rows, err := t.db.Read.QueryContext(ctx, `SELECT seq, hashes, line FROM entry
		WHERE account = $1 AND seq >= $2 AND seq < $3 ORDER BY seq LIMIT $4`, t.account, from, to, page)
	if err != nil {
		return 0, false, err
	}
	defer rows.Close()
	read := 0
	for rows.Next() {
		var seq uint64
		var hashes, line sql.RawBytes
		if err := rows.Scan(&seq, &hashes, &line); err != nil {
			return 0, false, err
		}
		read, next = read+1, seq+1
		if !yield(ledger.Stored{Line: line, Hashes: hashes}, nil) {
			return 0, false, nil
		}
	}
	return next, read == page, rows.Err()
}

// Claimed implements ledger.SignedLog.
func (t *Tenant) Claimed(ctx context.Context) (ledger.Claims, error) {
	var size, checkpoint sql.Null[uint64]
	err := t.db.Read.QueryRowContext(ctx, `SELECT (SELECT size FROM log WHERE account = $1),
		(SELECT MAX(size) FROM checkpoint WHERE account = $1)`, t.account).Scan(&size, &checkpoint)
	if err != nil {
		return ledger.Claims{}, t.fail("size", err)
	}
	return ledger.Claims{Size: size.V, Checkpoint: checkpoint.V}, nil
}

// Signed implements ledger.SignedLog.
func (t *Tenant) Signed(ctx context.Context) (ledger.Signed, error) {
	var s ledger.Signed
	var root, head []byte
	err := t.db.Read.QueryRowContext(ctx, `SELECT size, root, head, note FROM signer_state WHERE account = $1`, t.account).Scan(&s.Size, &root, &head, &s.Note)
	if errors.Is(err, sql.ErrNoRows) {
		return ledger.Signed{}, nil
	}
	if err == nil && (len(root) != len(s.Root) || len(head) != len(s.Head)) {
		err = errors.New("a hash in signer_state has the wrong length")
	}
	if err != nil {
		return ledger.Signed{}, t.fail("last signed", err)
	}
	copy(s.Root[:], root)
	copy(s.Head[:], head)
	return s, nil
}

// Publish implements ledger.SignedLog.
func (t *Tenant) Publish(ctx context.Context, last, next ledger.Signed, verifier string) error {
	tx, err := t.begin(ctx)
	if err != nil {
		return t.fail("checkpoint", err)
	}
	defer tx.Rollback()
	if last.Size == 0 {
		err = one(tx.ExecContext(ctx, `INSERT INTO signer_state (account, size, root, head, note) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (account) DO NOTHING`, t.account, next.Size, next.Root[:], next.Head[:], next.Note))
	} else {
		err = one(tx.ExecContext(ctx, `UPDATE signer_state SET size = $1, root = $2, head = $3, note = $4
			WHERE account = $5 AND size = $6 AND root = $7 AND size < $1`,
			next.Size, next.Root[:], next.Head[:], next.Note, t.account, last.Size, last.Root[:]))
	}
	if err != nil {
		return t.fail("checkpoint", err)
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO log_key (account, verifier) VALUES ($1, $2)
		ON CONFLICT (account, verifier) DO NOTHING`, t.account, verifier); err != nil {
		return t.fail("checkpoint", err)
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO checkpoint (account, size, note) VALUES ($1, $2, $3)`, t.account, next.Size, next.Note); err != nil {
		return t.fail("checkpoint", err)
	}
	if err := tx.Commit(); err != nil {
		return t.fail("checkpoint", err)
	}
	return nil
}

// Copy is the log as stored, for ledger.Verify and for an export. It ends where the log ends now.
func (t *Tenant) Copy(ctx context.Context) (ledger.Copy, error) {
	var size uint64
	var origin string
	err := t.db.Read.QueryRowContext(ctx, `SELECT size, origin FROM log WHERE account = $1`, t.account).Scan(&size, &origin)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return ledger.Copy{}, t.fail("size", err)
	}
	if err == nil && origin != t.origin {
		return ledger.Copy{}, fmt.Errorf("ledger of account %s: %w: begun as %q, opened as %q: name the deployment as it was (--deployment)", t.account, ErrOrigin, origin, t.origin)
	}
	last, err := t.Signed(ctx)
	if err != nil {
		return ledger.Copy{}, err
	}
	// The checkpoints' end before the entries': an honest log then has every entry that they cover, whatever
	// is appended and signed meanwhile.
	var signed sql.Null[uint64]
	if err := t.db.Read.QueryRowContext(ctx, `SELECT MAX(size) FROM checkpoint WHERE account = $1`, t.account).Scan(&signed); err != nil {
		return ledger.Copy{}, t.fail("checkpoints", err)
	}
	state, err := t.State(ctx, nil)
	if err != nil {
		return ledger.Copy{}, err
	}
	keys, err := t.keys(ctx)
	if err != nil {
		return ledger.Copy{}, t.fail("keys", err)
	}
	return ledger.Copy{
		Origin: t.origin, Entries: t.Lines(ctx, 0, state.Size), Checkpoints: t.checkpoints(ctx, signed.V), Keys: keys,
		Size: size, Signed: last.Size,
	}, nil
}

// checkpoints yields the signed checkpoints up to a size, smallest first.
func (t *Tenant) checkpoints(ctx context.Context, to uint64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for after, goOn := int64(-1), true; goOn; {
			sizes, notes, err := t.checkpointPage(ctx, after, to)
			if err != nil {
				yield(nil, t.fail("checkpoints", err))
				return
			}
			for _, n := range notes {
				if !yield(n, nil) {
					return
				}
			}
			if goOn = len(notes) == page; goOn {
				after = sizes[len(sizes)-1]
			}
		}
	}
}

func (t *Tenant) checkpointPage(ctx context.Context, after int64, to uint64) (sizes []int64, notes [][]byte, err error) {
	rows, err := t.db.Read.QueryContext(ctx, `SELECT size, note FROM checkpoint
		WHERE account = $1 AND size > $2 AND size <= $3 ORDER BY size LIMIT $4`, t.account, after, to, page)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var size int64
		var n []byte
		if err := rows.Scan(&size, &n); err != nil {
			return nil, nil, err
		}
		sizes, notes = append(sizes, size), append(notes, n)
	}
	return sizes, notes, rows.Err()
}

func (t *Tenant) keys(ctx context.Context) ([]string, error) {
	rows, err := t.db.Read.QueryContext(ctx, `SELECT verifier FROM log_key WHERE account = $1 ORDER BY verifier`, t.account)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var keys []string
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, rows.Err()
}
