package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/ledger"
	"github.com/noxaudit/noxaudit/ledger/sqllog"
)

// pin is the verifier key that doctor prints.
func (b *bench) pin() string {
	b.t.Helper()
	doctor, _ := b.want(exitPassed, "doctor")
	_, after, _ := strings.Cut(doctor, "verifier key ")
	key, _, _ := strings.Cut(after, "\n")
	return key
}

// forge does what somebody with the database and without the key could: it changes an entry, writes the chain
// and the tree's leaves anew, and takes every checkpoint and the signer's memory away.
func (b *bench) forge() {
	b.t.Helper()
	b.tamper("UPDATE log SET size = size")
	db, err := sql.Open("sqlite", filepath.Join(b.data, "ledger.db"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer db.Close()
	exec := func(statement string, args ...any) {
		b.t.Helper()
		if _, err := db.Exec(statement, args...); err != nil {
			b.t.Fatal(err)
		}
	}
	var lines []string
	rows, err := db.Query("SELECT line FROM entry ORDER BY seq")
	if err != nil {
		b.t.Fatal(err)
	}
	for rows.Next() {
		var line []byte
		if err := rows.Scan(&line); err != nil {
			b.t.Fatal(err)
		}
		lines = append(lines, strings.Replace(string(line), "finding.created", "finding.ignored", 1))
	}
	rows.Close()
	prev := strings.Repeat("0", 64)
	for seq, line := range lines {
		at := strings.Index(line, `"prev":"`) + len(`"prev":"`)
		line = line[:at] + prev + line[at+64:]
		raw, err := hex.DecodeString(prev)
		if err != nil {
			b.t.Fatal(err)
		}
		exec("UPDATE entry SET line = ?, prev = ?, hashes = ? WHERE seq = ?", []byte(line), raw, nodes(lines[:seq], line), seq)
		sum := sha256.Sum256([]byte(line))
		lines[seq] = line
		prev = hex.EncodeToString(sum[:])
	}
	exec("DELETE FROM checkpoint")
	exec("DELETE FROM signer_state")
}

// nodes are the stored hashes of the last line: its leaf and each subtree that it completes.
func nodes(before []string, last string) []byte {
	all := append(append([]string{}, before...), last)
	leaf := func(l string) [32]byte { return sha256.Sum256(append([]byte{0}, l...)) }
	var subtree func(from, to int) [32]byte
	subtree = func(from, to int) [32]byte {
		if to-from == 1 {
			return leaf(all[from])
		}
		mid := (from + to) / 2
		l, r := subtree(from, mid), subtree(mid, to)
		return sha256.Sum256(append(append([]byte{1}, l[:]...), r[:]...))
	}
	var out []byte
	for width := 1; len(all)%width == 0; width *= 2 {
		h := subtree(len(all)-width, len(all))
		out = append(out, h[:]...)
	}
	return out
}

func TestWhoHasTheDatabaseAndNotTheKeyCannotHaveAForgerySigned(t *testing.T) {
	b := setup(t)
	b.leak()
	b.want(exitBlocked, "audit", b.git.Dir)
	key := b.pin()
	b.want(exitPassed, "ledger", "verify", "--key", key)
	b.forge()
	if out, _ := b.want(exitBlocked, "ledger", "verify", "--key", key); !strings.Contains(out, "no checkpoint is left") {
		t.Errorf("verify says %q", out)
	}
	_, errs := b.want(exitBlocked, "audit", b.git.Dir)
	if !strings.Contains(errs, "not those that were signed") {
		t.Errorf("the next audit says %q: the key signed the forgery", errs)
	}
	b.want(exitBlocked, "ledger", "verify", "--key", key)
}

func TestALostLedgerIsWrittenAgainFromTheOutbox(t *testing.T) {
	b := setup(t)
	b.leak()
	for range 2 {
		b.want(exitBlocked, "audit", b.git.Dir)
	}
	key := b.pin()
	before, _ := b.want(exitPassed, "ledger", "verify", "--key", key)
	for _, file := range []string{"ledger.db", "ledger.db-wal", "ledger.db-shm"} {
		if err := os.Remove(filepath.Join(b.data, file)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if _, errs := b.want(exitBlocked, "audit", b.git.Dir); errs != "" {
		t.Errorf("the next audit says %q", errs)
	}
	after, _ := b.want(exitPassed, "ledger", "verify", "--key", key)
	if !strings.Contains(before, ": 6 entries") || !strings.Contains(after, ": 8 entries") {
		t.Errorf("before %q\nafter %q", before, after)
	}
}

func TestALostDatabaseIsNamedAsTheReason(t *testing.T) {
	b := setup(t)
	b.leak()
	b.want(exitBlocked, "audit", b.git.Dir)
	for _, file := range []string{"noxaudit.db", "noxaudit.db-wal", "noxaudit.db-shm"} {
		if err := os.Remove(filepath.Join(b.data, file)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if _, errs := b.want(exitBlocked, "audit", b.git.Dir); !strings.Contains(errs, "do not belong together") {
		t.Errorf("the next audit says %q", errs)
	}
}

func TestALostKeyIsNotReplacedInSilence(t *testing.T) {
	b := setup(t)
	b.leak()
	b.want(exitBlocked, "audit", b.git.Dir)
	if err := os.Remove(filepath.Join(b.data, "ledger.key")); err != nil {
		t.Fatal(err)
	}
	if _, errs := b.want(exitFailed, "audit", b.git.Dir); !strings.Contains(errs, "key that is gone") {
		t.Errorf("the next audit says %q", errs)
	}
}

func TestAWrongSettingIsNoTampering(t *testing.T) {
	b := setup(t)
	b.leak()
	b.want(exitBlocked, "audit", b.git.Dir)
	b.want(exitFailed, "ledger", "verify", "--deployment", "prod")
	b.want(exitFailed, "ledger", "verify", "--account", "777")
	b.want(exitFailed, "ledger", "verify", "--key", "noxaudit/other+00000000+AAAA")
}

func TestATenantCannotBeHiddenFromVerify(t *testing.T) {
	b := setup(t)
	b.leak()
	b.want(exitBlocked, "audit", b.git.Dir)
	b.tamper("DELETE FROM log")
	if out, errs := b.want(exitPassed, "ledger", "verify"); !strings.Contains(out, "noxaudit/local/local: 4 entries") {
		t.Errorf("verify says %q %q", out, errs)
	}
}

// recordBench is a store and a ledger.
func recordBench(t *testing.T) (*store.Tenant, *sqllog.Tenant, func(source string, n int)) {
	t.Helper()
	ctx := context.Background()
	dir := t.TempDir()
	st, err := store.Open(ctx, filepath.Join(dir, "s.db"))
	if err != nil {
		t.Fatal(err)
	}
	log, err := sqllog.Open(ctx, filepath.Join(dir, "l.db"), "d")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close(); st.Close() })
	tenant := st.For(name.Local)
	put := func(source string, n int) {
		t.Helper()
		for n > 0 {
			c := store.Change{Time: time.Unix(1, 0)}
			for ; n > 0 && len(c.Entries) < store.MaxEntries; n-- {
				id, err := ledger.NewID(time.Unix(1, 0), rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				salt, err := ledger.NewSalt(rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				c.Entries = append(c.Entries, ledger.Event{Time: time.Unix(1, 0), Source: source, ID: id, Salt: salt, Type: "t", Account: "local", Actor: ledger.Actor{Kind: "cli"}})
			}
			if err := tenant.Commit(ctx, c); err != nil {
				t.Fatal(err)
			}
		}
	}
	return tenant, log.For(name.Local), put
}

func TestAReplacedSequencerReportsNoGap(t *testing.T) {
	ctx := context.Background()
	tenant, log, put := recordBench(t)
	one, err := ledger.NewSequencer(ctx, tenant, log)
	if err != nil {
		t.Fatal(err)
	}
	put("a", 2)
	if _, err := one.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	two, err := ledger.NewSequencer(ctx, tenant, log)
	if err != nil {
		t.Fatal(err)
	}
	put("a", 2)
	if _, err := two.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	put("a", 2)
	for range 2 {
		if _, err := one.Drain(ctx); !errors.Is(err, ledger.ErrFenced) {
			t.Errorf("the replaced sequencer says %v, want ErrFenced", err)
		}
	}
	if n, err := two.Drain(ctx); n != 2 || err != nil {
		t.Errorf("the newer one appended %d, %v", n, err)
	}
}

// lossy loses one row.
type lossy struct {
	*store.Tenant
	source string
	sseq   uint64
}

func (l lossy) Pending(ctx context.Context, limit int) ([]ledger.Recorded, error) {
	rows, err := l.Tenant.Pending(ctx, limit)
	return l.drop(rows), err
}

func (l lossy) PendingExcept(ctx context.Context, limit int, except []string) ([]ledger.Recorded, error) {
	rows, err := l.Tenant.PendingExcept(ctx, limit, except)
	return l.drop(rows), err
}

func (l lossy) drop(rows []ledger.Recorded) []ledger.Recorded {
	var out []ledger.Recorded
	for _, r := range rows {
		if r.Source != l.source || r.SSeq != l.sseq {
			out = append(out, r)
		}
	}
	return out
}

func TestASourceThatIsHeldBackDoesNotStarveTheOthers(t *testing.T) {
	ctx := context.Background()
	tenant, log, put := recordBench(t)
	put("a", 5000)
	put("b", 3)
	put("c", 2)
	s, err := ledger.NewSequencer(ctx, lossy{tenant, "a", 1}, log)
	if err != nil {
		t.Fatal(err)
	}
	n, err := s.Drain(ctx)
	if n != 5 || !errors.Is(err, ledger.ErrGap) || strings.Count(fmt.Sprint(err), "source \"a\"") != 1 {
		t.Errorf("appended %d, %v; want b's and c's five and one word about a", n, err)
	}
}

func TestAKeyOfTheRightNameAndOtherBytesSaysSo(t *testing.T) {
	b := setup(t)
	b.leak()
	b.want(exitBlocked, "audit", b.git.Dir)
	other, _ := b.want(exitPassed, "ledger", "keygen", filepath.Join(t.TempDir(), "other.key"))
	key := strings.TrimSpace(other)
	out, _ := b.want(exitBlocked, "ledger", "verify", "--key", key)
	if !strings.Contains(out, "not signed by this key") || strings.Contains(out, "ledger entry") {
		t.Errorf("verify says %q", out)
	}
	if out, _ := b.want(exitBlocked, "ledger", "verify", "--key", key, "--format", "json"); strings.Contains(out, "firstBad") {
		t.Errorf("an entry is blamed: %s", out)
	}
}

// heldCheckpoint writes the log's last checkpoint into a file, as somebody who keeps one elsewhere would.
func (b *bench) heldCheckpoint() string {
	b.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(b.data, "ledger.db"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer db.Close()
	var note []byte
	if err := db.QueryRow("SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1").Scan(&note); err != nil {
		b.t.Fatal(err)
	}
	file := filepath.Join(b.t.TempDir(), "held")
	if err := os.WriteFile(file, note, 0o600); err != nil {
		b.t.Fatal(err)
	}
	return file
}

func TestAHeldCheckpointShowsThatALogIsGone(t *testing.T) {
	b := setup(t)
	b.leak()
	b.want(exitBlocked, "audit", b.git.Dir)
	key, held := b.pin(), b.heldCheckpoint()
	args := []string{"ledger", "verify", "--key", key, "--checkpoint", held}
	b.want(exitPassed, append(args, "--account", "local")...)
	b.want(exitFailed, append(args, "--account", "7")...) // of another log
	b.want(exitFailed, args...)
	for _, table := range []string{"entry", "entry_id", "log", "checkpoint", "signer_state", "source_head"} {
		b.tamper("DELETE FROM " + table)
	}
	if out, _ := b.want(exitBlocked, append(args, "--account", "local")...); !strings.Contains(out, "the end is missing") {
		t.Errorf("verify says %q", out)
	}
	b.want(exitFailed, "ledger", "verify", "--key", key)
}

func TestALogWithoutAnEntryDoesNotHideTheOthers(t *testing.T) {
	b := setup(t)
	b.leak()
	b.want(exitBlocked, "audit", b.git.Dir)
	log, err := sqllog.Open(context.Background(), filepath.Join(b.data, "ledger.db"), "local")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.Deployment().Claim(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	out, _ := b.want(exitPassed, "ledger", "verify", "--key", b.pin())
	if !strings.Contains(out, "noxaudit/local/deployment: 0 entries") || !strings.Contains(out, "noxaudit/local/local: 4 entries") {
		t.Errorf("verify says %q", out)
	}
	b.tamper("UPDATE entry SET line = replace(line, 'ada', 'eve') WHERE seq = 2")
	b.want(exitBlocked, "ledger", "verify")
}

func TestVerifyingChangesNothing(t *testing.T) {
	b := setup(t)
	b.leak()
	b.want(exitBlocked, "audit", b.git.Dir)
	file := filepath.Join(b.data, "ledger.db")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b.want(exitPassed, "ledger", "verify")
	if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
		t.Errorf("the ledger's file changed: %v", err)
	}
	b.data = t.TempDir()
	if err := os.WriteFile(filepath.Join(b.data, "ledger.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errs := b.want(exitFailed, "ledger", "verify"); !strings.Contains(errs, "none of this program's tables") {
		t.Errorf("verify says %q", errs)
	}
}

// An entry that a database administrator put behind the end waits for a signature that never comes.
func TestAnEntryThatNobodySignsIsRefusedUnderAPinnedKey(t *testing.T) {
	b := setup(t)
	b.leak()
	b.want(exitBlocked, "audit", b.git.Dir)
	key := b.pin()
	b.want(exitBlocked, "audit", b.git.Dir)
	b.tamper("DELETE FROM checkpoint WHERE size > 4")
	b.tamper("UPDATE signer_state SET size = 4")
	b.want(exitPassed, "ledger", "verify", "--key", key)
	var out, errs bytes.Buffer
	later := &program{
		stdin: strings.NewReader(""), stdout: &out, stderr: &errs, environ: []string{"NOXAUDIT_DATA_DIR=" + b.data},
		now: func() time.Time { return time.Now().Add(2 * time.Hour) }, rand: rand.Reader, columns: func() int { return 100 },
	}
	code := later.run(context.Background(), []string{"ledger", "verify", "--key", key})
	if code != exitBlocked || !strings.Contains(out.String(), "ledger entry 4: signature: no checkpoint covers it") {
		t.Errorf("exit code %d, verify says %q %q", code, &out, &errs)
	}
}
