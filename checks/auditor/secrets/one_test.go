package secrets

import (
	"context"
	"github.com/noxaudit/noxaudit/checks/audit"
	"os"
	"testing"
	"time"
)

func TestOne(t *testing.T) {
	a := standard(t)
	auditText(t, a, "a.txt", "x")
	text := hostileTexts()[os.Getenv("CASE")]
	if os.Getenv("CUT") != "" {
		text = text[:len(text)/10]
	}
	start := time.Now()
	ds, err := a.AuditBlob(context.Background(), audit.Blob{Path: "a.txt", Bytes: []byte(text), Seal: testSeal})
	t.Log(time.Since(start), len(ds), err)
}
