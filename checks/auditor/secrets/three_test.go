package secrets

import (
	"context"
	"github.com/noxaudit/noxaudit/checks/audit"
	"strings"
	"testing"
	"time"
)

func TestThree(t *testing.T) {
	a := standard(t)
	auditText(t, a, "a.txt", "x")
	for _, u := range []string{"key=0123456789ab ", "YXBpX2tleT1hYmNkZWZnaGlqa2w= ", "key=aaaaaaaaaa\n"} {
		for _, n := range []int{4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10, 90 << 10} {
			text := strings.Repeat(u, n/len(u))
			start := time.Now()
			ds, err := a.AuditBlob(context.Background(), audit.Blob{Path: "a.txt", Bytes: []byte(text), Seal: testSeal})
			t.Logf("%-20q %d %6.3f %d %v", u, n, time.Since(start).Seconds(), len(ds), err)
		}
	}
}
