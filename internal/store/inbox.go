package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// DeliveryTried counts an attempt to process a delivery, before it begins, and returns how many there are now:
// one that ends the process each time is known by that and can be refused. It needs no entry: it says nothing
// but that we are at work. ErrAlreadyDone when the delivery has ended, ErrNotFound when there is none.
func (t *Tenant) DeliveryTried(ctx context.Context, guid string) (attempts int, err error) {
	noun := "delivery " + guid
	err = t.write(ctx, noun, func(w *writer) error {
		err := w.query(ctx, noun, func(rows *sql.Rows) error { return rows.Scan(&attempts) },
			`UPDATE delivery SET attempts = attempts + 1 WHERE account = $1 AND guid = $2 AND state = 'received' RETURNING attempts`, guid)
		if err != nil || attempts > 0 {
			return err
		}
		return w.whyNotReceived(ctx, guid)
	})
	if err != nil {
		return 0, err
	}
	return attempts, nil
}

// DeliverySpared takes back one attempt that came to an end, though not to success: somebody else could not be asked.
func (t *Tenant) DeliverySpared(ctx context.Context, guid string) error {
	return t.write(ctx, "delivery "+guid, func(w *writer) error {
		_, err := w.exec(ctx, "delivery "+guid, `UPDATE delivery SET attempts = attempts - 1
			WHERE account = $1 AND guid = $2 AND state = 'received' AND attempts > 0`, guid)
		return err
	})
}

// whyNotReceived is ErrAlreadyDone or ErrNotFound.
func (w *writer) whyNotReceived(ctx context.Context, guid string) error {
	noun := "delivery " + guid
	refusal := ErrNotFound
	err := w.query(ctx, noun, func(*sql.Rows) error {
		refusal = ErrAlreadyDone
		return nil
	}, `SELECT state FROM delivery WHERE account = $1 AND guid = $2`, guid)
	if err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", noun, refusal)
}

// dropRows and dropBytes are about how many bodies, and how much of them, one transaction drops: SQLite puts
// each page that they took on the list of free ones.
const (
	dropRows  = 500
	dropBytes = 4 << 20
)

// DropDeliveryBodies drops the bodies of deliveries that were received before the given time, and returns how
// many: payloads are kept for their time of retention only. The rows stay, so that a delivery that comes again
// is known. One that has not ended keeps its body, for there would be nothing to process.
//
// It needs no entry: nothing is decided and nothing that the ledger tells of is lost, for what mattered of a
// delivery is in the entries that its end was committed with. It works in small transactions.
func (t *Tenant) DropDeliveryBodies(ctx context.Context, before time.Time) (dropped int, err error) {
	for {
		var victims [][]any
		total := 0
		err := t.query(ctx, "delivery", func(rows *sql.Rows) error {
			var guid string
			var size int
			if err := rows.Scan(&guid, &size); err != nil {
				return err
			}
			victims = append(victims, []any{guid})
			if total += size; total >= dropBytes {
				return errEnough
			}
			return nil
		}, `SELECT guid, LENGTH(body) FROM delivery WHERE account = $1 AND body IS NOT NULL AND state <> 'received' AND received_at < $2
			ORDER BY received_at, guid LIMIT $3`, before.UnixMicro(), dropRows)
		if err != nil || len(victims) == 0 {
			return dropped, err
		}
		err = t.write(ctx, "delivery", func(w *writer) error {
			n, err := w.listed(ctx, "delivery",
				`UPDATE delivery SET body = NULL WHERE account = $1 AND state <> 'received' AND guid IN (VALUES %s)`, nil, victims)
			dropped += n
			return err
		})
		if err != nil {
			return dropped, err
		}
	}
}
