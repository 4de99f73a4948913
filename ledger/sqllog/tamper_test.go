package sqllog

import (
	"context"
	"errors"
	"math/rand"
	"path/filepath"
	"strings"
	"testing"

	"github.com/noxaudit/noxaudit/internal/database"
	"github.com/noxaudit/noxaudit/internal/dbtest"
	"github.com/noxaudit/noxaudit/ledger"
)

func otherKey(t *testing.T) *ledger.Key {
	t.Helper()
	k, err := ledger.LoadOrCreateKey(filepath.Join(t.TempDir(), "key"), "noxaudit/acme", rand.New(rand.NewSource(8)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// asOwner does what somebody who owns the database can do: switch the triggers off, change what they like, and
// switch them on again.
func asOwner(t *testing.T, l *Log, statements ...string) {
	t.Helper()
	switchedOff(t, l, func() { exec(statements...)(t, l) })
}

// switchedOff runs change while no trigger fires.
func switchedOff(t *testing.T, l *Log, change func()) {
	t.Helper()
	run := func(statement string) {
		t.Helper()
		if _, err := l.db.Write.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	tables := []string{"entry", "entry_id", "checkpoint", "log_key", "log", "signer_state"}
	if l.db.Engine == database.Postgres {
		for _, table := range tables {
			run("ALTER TABLE " + table + " DISABLE TRIGGER ALL")
		}
		defer func() {
			for _, table := range tables {
				run("ALTER TABLE " + table + " ENABLE TRIGGER ALL")
			}
		}()
	} else {
		rows, err := l.db.Read.Query(`SELECT name, sql FROM sqlite_master WHERE type = 'trigger'`)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var drop, restore []string
		for rows.Next() {
			var trigger, text string
			if err := rows.Scan(&trigger, &text); err != nil {
				t.Fatal(err)
			}
			drop, restore = append(drop, "DROP TRIGGER "+trigger), append(restore, text)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		for _, s := range drop {
			run(s)
		}
		defer func() {
			for _, s := range restore {
				run(s)
			}
		}()
	}
	change()
}

func wantTampered(t *testing.T, log *Tenant, o ledger.Options, seq uint64, layer ledger.Layer) {
	t.Helper()
	_, err := verify(t, log, o)
	var tampered *ledger.Tampered
	if !errors.As(err, &tampered) {
		t.Fatalf("not noticed: %v", err)
	}
	if tampered.Seq != seq || tampered.Layer != layer {
		t.Errorf("got %v, want entry %d, layer %q", tampered, seq, layer)
	}
}

// edit is a portable way to change one byte in the middle of a stored line: '"system"' becomes '"sysTem"'.
func edit(t *testing.T, l *Log, seq uint64) {
	t.Helper()
	var line []byte
	if err := l.db.Read.QueryRow(`SELECT line FROM entry WHERE seq = $1`, seq).Scan(&line); err != nil {
		t.Fatal(err)
	}
	store(t, l, seq, strings.Replace(string(line), "system", "sysTem", 1))
}

func store(t *testing.T, l *Log, seq uint64, line string) {
	t.Helper()
	if _, err := l.db.Write.Exec(`UPDATE entry SET line = $1 WHERE seq = $2`, []byte(line), seq); err != nil {
		t.Fatal(err)
	}
}

// Case 28 of the tamper suite: the owner of the database switches the triggers off and on again. Cases 1 to 4,
// 12, 26 and 27 as that owner.
func TestTamper28WhatTheDatabasesOwnerChangesIsFound(t *testing.T) {
	for _, c := range []struct {
		name   string
		tamper func(t *testing.T, l *Log)
		seq    uint64
		layer  ledger.Layer
	}{
		{"1: an entry edited", func(t *testing.T, l *Log) { edit(t, l, 5) }, 5, ledger.LayerHashes},
		{"2: the last entry edited", func(t *testing.T, l *Log) { edit(t, l, 11) }, 11, ledger.LayerHashes},
		{"3: the first entry deleted", exec(`DELETE FROM entry WHERE seq = 0`), 0, ledger.LayerSequence},
		{"3: a middle entry deleted", exec(`DELETE FROM entry WHERE seq = 6`), 6, ledger.LayerSequence},
		{"3: the last signed entries deleted", exec(`DELETE FROM entry WHERE seq >= 9`), 9, ledger.LayerSize},
		{"3: everything deleted", exec(`DELETE FROM entry`), 0, ledger.LayerSize},
		{"4: two entries swapped", exec(`UPDATE entry SET seq = 99 WHERE seq = 4`, `UPDATE entry SET seq = 4 WHERE seq = 5`,
			`UPDATE entry SET seq = 5 WHERE seq = 99`), 4, ledger.LayerSequence},
		{"12: a checkpoint signed by another key", func(t *testing.T, l *Log) {
			forged := open(t, dbtest.SQLite(t)).For(account(t, "7"))
			drain(t, forged, newStream(1, "7").events(t, 10, 0))
			signed := sign(t, otherKey(t), forged)
			if _, err := l.db.Write.Exec(`UPDATE checkpoint SET note = $1 WHERE account = '7' AND size = 10`, signed.Note); err != nil {
				t.Fatal(err)
			}
		}, 0, ledger.LayerSignature},
		{"21: another log's checkpoint", func(t *testing.T, l *Log) {
			other := l.For(account(t, "8"))
			drain(t, other, newStream(1, "8").events(t, 10, 0))
			signed := sign(t, otherKey(t), other)
			if _, err := l.db.Write.Exec(`UPDATE checkpoint SET note = $1 WHERE account = '7' AND size = 10`, signed.Note); err != nil {
				t.Fatal(err)
			}
		}, 0, ledger.LayerOrigin},
		{"26: a checkpoint of more entries than there are", exec(
			`DELETE FROM entry WHERE seq >= 7`, `UPDATE log SET size = 7`), 7, ledger.LayerSize},
		{"27: the tree edited, the line not", exec(
			`UPDATE entry SET hashes = (SELECT hashes FROM entry e WHERE e.seq = 2 AND e.account = '7') WHERE seq = 8`), 8, ledger.LayerHashes},
		{"27: a hash of a subtree removed", func(t *testing.T, l *Log) {
			var leaf []byte
			if err := l.db.Read.QueryRow(`SELECT hashes FROM entry WHERE seq = 3 AND account = '7'`).Scan(&leaf); err != nil {
				t.Fatal(err)
			}
			if _, err := l.db.Write.Exec(`UPDATE entry SET hashes = $1 WHERE seq = 3 AND account = '7'`, leaf[:32]); err != nil {
				t.Fatal(err)
			}
		}, 3, ledger.LayerHashes},
	} {
		t.Run(c.name, func(t *testing.T) {
			dbtest.Each(t, func(t *testing.T, dsn string) {
				l := open(t, dsn)
				log := l.For(account(t, "7"))
				s, k := newStream(1, "7"), key(t)
				drain(t, log, s.events(t, 10, 0))
				sign(t, k, log)
				drain(t, log, s.events(t, 2, 0))
				pin := ledger.Options{Keys: []string{k.Public()}}
				if _, err := verify(t, log, pin); err != nil {
					t.Fatal(err)
				}
				switchedOff(t, l, func() { c.tamper(t, l) })
				wantTampered(t, log, pin, c.seq, c.layer)
			})
		})
	}
}

// exec tampers by statements.
func exec(statements ...string) func(*testing.T, *Log) {
	return func(t *testing.T, l *Log) {
		t.Helper()
		for _, s := range statements {
			if _, err := l.db.Write.Exec(s); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
	}
}

// Case 7: without the key, a rewritten history fits together and no checkpoint does.
func TestTamper07ARecomputedChainDoesNotMatchTheCheckpoint(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		l := open(t, dsn)
		log := l.For(account(t, "7"))
		k := key(t)
		drain(t, log, newStream(1, "7").events(t, 10, 0))
		sign(t, k, log)
		// The attacker lets the product itself build the other history, and keeps the old checkpoints.
		asOwner(t, l, `DELETE FROM entry`, `DELETE FROM entry_id`, `DELETE FROM source_head`, `UPDATE log SET size = 0`)
		drain(t, log, newStream(2, "7").events(t, 10, 0))
		wantTampered(t, log, ledger.Options{Keys: []string{k.Public()}}, 0, ledger.LayerRoot)
	})
}

// Case 10: a database restored from a backup, grown again, does not get a second signature.
func TestTamper10TheSignerRefusesALogThatWasRolledBack(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		ctx := context.Background()
		l := open(t, dsn)
		log := l.For(account(t, "7"))
		k := key(t)
		drain(t, log, newStream(1, "7").events(t, 10, 0))
		sign(t, k, log)
		signer, err := ledger.NewSigner(k, log)
		if err != nil {
			t.Fatal(err)
		}
		refused := func(layer ledger.Layer) {
			t.Helper()
			_, err := signer.Sign(ctx)
			var tampered *ledger.Tampered
			if !errors.As(err, &tampered) || tampered.Layer != layer {
				t.Errorf("got %v, want layer %q", err, layer)
			}
		}
		asOwner(t, l, `DELETE FROM entry`, `DELETE FROM entry_id`, `DELETE FROM source_head`, `UPDATE log SET size = 0`)
		s := newStream(2, "7")
		drain(t, log, s.events(t, 4, 0))
		refused(ledger.LayerSize)
		drain(t, log, s.events(t, 6, 0))
		refused(ledger.LayerRoot) // the same size, another history
		drain(t, log, s.events(t, 6, 0))
		refused(ledger.LayerRoot)
		// Nor does it help to change the signer's memory.
		asOwner(t, l, `UPDATE signer_state SET size = 8`)
		refused(ledger.LayerSignature)
	})
}

// Cases 5 and 8: who has the database and the key can only be shown a checkpoint they could not reach.
func TestTamper05And08OnlyAHeldCheckpointShowsWhatTheKeysOwnerDid(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		l := open(t, dsn)
		log := l.For(account(t, "7"))
		k := key(t)
		s := newStream(1, "7")
		drain(t, log, s.events(t, 5, 0))
		sign(t, k, log)
		drain(t, log, s.events(t, 5, 0))
		held := sign(t, k, log)

		// Who cuts the log and forgets to say so everywhere is caught without any help.
		asOwner(t, l, `DELETE FROM entry WHERE seq >= 5`, `DELETE FROM checkpoint WHERE size > 5`)
		wantTampered(t, log, ledger.Options{}, 5, ledger.LayerSize)
		asOwner(t, l, `UPDATE log SET size = 5`)
		wantTampered(t, log, ledger.Options{}, 5, ledger.LayerSize)
		asOwner(t, l, `DELETE FROM signer_state`)
		if v, err := verify(t, log, ledger.Options{}); err != nil || v.Entries != 5 {
			t.Errorf("the older state verifies by itself: got %+v, %v", v, err)
		}
		wantTampered(t, log, ledger.Options{Held: [][]byte{held.Note}}, 5, ledger.LayerSize)

		asOwner(t, l, `DELETE FROM entry`, `DELETE FROM entry_id`, `DELETE FROM source_head`, `UPDATE log SET size = 0`,
			`DELETE FROM checkpoint`, `DELETE FROM signer_state`)
		drain(t, log, newStream(2, "7").events(t, 10, 0))
		sign(t, k, log)
		if _, err := verify(t, log, ledger.Options{Keys: []string{k.Public()}}); err != nil {
			t.Errorf("the rewritten log verifies by itself: %v", err)
		}
		wantTampered(t, log, ledger.Options{Keys: []string{k.Public()}, Held: [][]byte{held.Note}}, 0, ledger.LayerFork)
	})
}

// Case 6: what is cut off beyond the last checkpoint shows when the next event comes.
func TestTamper06AnUnsignedEndCutOffIsMissed(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, dsn string) {
		ctx := context.Background()
		l := open(t, dsn)
		log := l.For(account(t, "7"))
		s := newStream(1, "7")
		drain(t, log, s.events(t, 20, 0))
		next := func() error {
			sequencer, err := ledger.NewSequencer(ctx, &memOutbox{rows: s.events(t, 3, 0)}, log)
			if err != nil {
				t.Fatal(err)
			}
			_, err = sequencer.Drain(ctx)
			return err
		}
		asOwner(t, l, `DELETE FROM entry WHERE seq >= 12`)
		var tampered *ledger.Tampered
		if err := next(); !errors.As(err, &tampered) || tampered.Seq != 12 || tampered.Layer != ledger.LayerSize {
			t.Errorf("entries removed: got %v", err)
		}
		asOwner(t, l, `DELETE FROM entry_id WHERE seq >= 12`, `UPDATE log SET size = 12`, `UPDATE source_head SET last_sseq = 1`)
		if err := next(); !errors.Is(err, ledger.ErrGap) {
			t.Errorf("everything put back: got %v", err)
		}
	})
}
