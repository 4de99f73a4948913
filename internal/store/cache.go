package store

import (
	"context"
	"database/sql"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// cacheRows is how many rows of the cache one transaction writes.
const cacheRows = 500

// CacheGet returns the bodies that the cache has for these keys; a key it lacks is not in the map. It does not
// mark them as used: CacheTouch does.
func (t *Tenant) CacheGet(ctx context.Context, keys []string) (map[string][]byte, error) {
	out := make(map[string][]byte, len(keys))
	for part := range slices.Chunk(keys, batch(t.db.Engine, 1)) {
		err := t.query(ctx, "cache", func(rows *sql.Rows) error {
			var key string
			var body []byte
			if err := rows.Scan(&key, &body); err != nil {
				return err
			}
			if body == nil {
				body = []byte{} // SQLite's driver returns empty bytes as nil
			}
			out[key] = body
			return nil
		}, `SELECT key, body FROM cache WHERE account = $1 AND key IN (`+list(2, len(part))+`)`, anys(part)...)
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// CachePut stores bodies under their keys, replacing what was there. A failure may leave a part of them
// stored.
func (t *Tenant) CachePut(ctx context.Context, now time.Time, bodies map[string][]byte) error {
	for part := range slices.Chunk(slices.Sorted(maps.Keys(bodies)), cacheRows) {
		rows := make([][]any, len(part))
		for i, key := range part {
			body := bodies[key]
			if body == nil {
				body = []byte{}
			}
			if key == "" || len(key) > 1024 {
				return invalid("a key of the cache must be 1 to 1024 bytes")
			}
			rows[i] = []any{key, body}
		}
		err := t.write(ctx, "cache", func(w *writer) error {
			_, err := w.tuples(ctx, "cache", `INSERT INTO cache (account, used_at, key, body) VALUES %s
				ON CONFLICT (account, key) DO UPDATE SET body = excluded.body, used_at = excluded.used_at`,
				[]any{now.UnixMicro()}, rows)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// cacheGrain is how exactly uses are recorded: an audit that finds everything in the cache then writes
// nothing, but once a day.
const cacheGrain = 24 * time.Hour

// CacheTouch marks the keys as used now, to within a day, so that CacheTrim keeps them.
func (t *Tenant) CacheTouch(ctx context.Context, now time.Time, keys []string) error {
	keys = slices.Clone(keys)
	slices.Sort(keys)
	for part := range slices.Chunk(keys, cacheRows) {
		rows := make([][]any, len(part))
		for i, key := range part {
			rows[i] = []any{key}
		}
		err := t.write(ctx, "cache", func(w *writer) error {
			_, err := w.listed(ctx, "cache",
				`UPDATE cache SET used_at = $2 WHERE account = $1 AND used_at < $3 AND key IN (VALUES %s)`,
				[]any{now.UnixMicro(), now.Add(-cacheGrain).UnixMicro()}, rows)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// CacheTrim drops what was last used before the given time, and then the longest unused until the bodies
// take at most maxBytes. It returns how many it dropped. It works in small transactions.
func (t *Tenant) CacheTrim(ctx context.Context, before time.Time, maxBytes int64) (dropped int, err error) {
	var total int64
	if _, err := t.get(ctx, "cache", []any{&total}, `SELECT COALESCE(SUM(LENGTH(body)), 0) FROM cache WHERE account = $1`); err != nil {
		return 0, err
	}
	for {
		var victims [][]any
		seen := 0
		err := t.query(ctx, "cache", func(rows *sql.Rows) error {
			var key string
			var used, size int64
			if err := rows.Scan(&key, &used, &size); err != nil {
				return err
			}
			seen++
			if len(victims) == seen-1 && (used < before.UnixMicro() || total > maxBytes) {
				victims = append(victims, []any{key})
				total -= size
			}
			return nil
		}, `SELECT key, used_at, LENGTH(body) FROM cache WHERE account = $1 ORDER BY used_at, key LIMIT $2`, cacheRows)
		if err != nil || len(victims) == 0 {
			return dropped, err
		}
		err = t.write(ctx, "cache", func(w *writer) error {
			n, err := w.listed(ctx, "cache", `DELETE FROM cache WHERE account = $1 AND key IN (VALUES %s)`, nil, victims)
			dropped += n
			return err
		})
		if err != nil || len(victims) < cacheRows {
			return dropped, err
		}
	}
}

// list writes "$2, $3, $4": n placeholders from the number first.
func list(first, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(first + i))
	}
	return b.String()
}

func anys(ss []string) []any {
	out := make([]any, len(ss))
	for i, s := range ss {
		out[i] = s
	}
	return out
}
