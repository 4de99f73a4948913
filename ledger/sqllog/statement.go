package sqllog

import (
	"context"
	"database/sql"
	"math/bits"
	"strconv"
	"strings"

	"github.com/noxaudit/noxaudit/internal/database"
	"github.com/noxaudit/noxaudit/ledger"
)

// chunk is the most values of one IN list: both engines limit the number of parameters.
const chunk = 512

// rowsPerInsert is the most rows of one INSERT. To PostgreSQL every statement is a round trip. SQLite looks each
// of its numbered parameters up among those before, so there long statements cost the square of their length.
func rowsPerInsert(e database.Engine) int {
	if e == database.SQLite {
		return 16
	}
	return 512
}

// insert runs head + "($1, $2, …), (…)…" + tail for n rows, in statements of most, most/2, … rows: few distinct
// texts, which the driver can keep prepared.
func insert(ctx context.Context, tx *sql.Tx, most int, head string, columns, n int, tail string, fill func(i int, row []any)) error {
	for done := 0; done < n; {
		count := min(most, 1<<(bits.Len(uint(n-done))-1))
		values := make([]any, count*columns)
		for i := range count {
			fill(done+i, values[i*columns:(i+1)*columns])
		}
		if _, err := tx.ExecContext(ctx, head+tuples(columns, count)+tail, values...); err != nil {
			return err
		}
		done += count
	}
	return nil
}

func tuples(columns, n int) string {
	var b strings.Builder
	b.Grow(n * columns * 7)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('(')
		b.WriteString(list(i*columns+1, columns))
		b.WriteByte(')')
	}
	return b.String()
}

// list is n placeholders from the given number on.
func list(from, n int) string {
	b := make([]byte, 0, n*6)
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(append(b, '$'), int64(from+i), 10)
	}
	return string(b)
}

// args is the account and then the values of an IN list.
func args[T any](account string, values []T) []any {
	out := make([]any, 0, len(values)+1)
	out = append(out, account)
	for _, v := range values {
		out = append(out, v)
	}
	return out
}

func inChunks[T any](values []T, query func(chunk []T) error) error {
	for len(values) > 0 {
		n := min(chunk, len(values))
		if err := query(values[:n]); err != nil {
			return err
		}
		values = values[n:]
	}
	return nil
}

// one turns "no row matched" into ledger.ErrFenced.
func one(r sql.Result, err error) error {
	if err != nil {
		return err
	}
	n, err := r.RowsAffected()
	if err == nil && n != 1 {
		err = ledger.ErrFenced
	}
	return err
}
