package secrets

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/noxaudit/noxaudit/checks/audit"
	"github.com/noxaudit/noxaudit/internal/canon"
)

// golden is what the auditor of one version and configuration says of a fixed corpus.
type golden struct {
	Version string `json:"version"`
	Config  string `json:"config"`
	Results string `json:"results"` // digest
}

// results digests what the auditor says of every plant in places of all kinds.
func results(t *testing.T, a *Auditor) string {
	t.Helper()
	files := corpus()
	var all strings.Builder
	for _, path := range slices.Sorted(maps.Keys(files)) {
		all.WriteString(files[path])
	}
	for _, path := range []string{"a.go", "a.yaml", "x.ini", "a_test.go", "testdata/k", "yarn.lock", "vendor/a.b/c.go", "a.min.js", "a.bin", "index.php", "f.tf"} {
		files["all/"+path] = all.String()
	}
	files["nul.txt"] = all.String() + "\x00"
	files["data.bin"] = "\x7fELF" + strings.Repeat("\x00\x01\x02\x03", 2000) + all.String()
	for name, text := range hostile(100 << 10) {
		files["hostile/"+name] = text
	}
	var said []any
	for _, path := range slices.Sorted(maps.Keys(files)) {
		ds, err := a.AuditBlob(context.Background(), audit.Blob{Path: path, Bytes: []byte(files[path]), Seal: testSeal})
		failed := ""
		if err != nil {
			failed = err.Error()
		}
		said = append(said, path, ds, failed)
	}
	b, err := json.Marshal(said)
	if err != nil {
		t.Fatal(err)
	}
	return canon.Digest(b)
}

func TestOtherResultsNeedAnotherVersion(t *testing.T) {
	a := standard(t)
	info := a.Info()
	got := golden{info.Version, info.Config, results(t, a)}
	var was golden
	b, err := os.ReadFile("testdata/golden.json")
	if err == nil {
		err = json.Unmarshal(b, &was)
	}
	if err == nil && got == was {
		return
	}
	next, _ := json.MarshalIndent(got, "", "  ")
	if got.Results != was.Results && got.Version == was.Version && got.Config == was.Config {
		t.Errorf("the corpus has other results under the same version and configuration: remembered results would be wrong. Raise the version")
	}
	t.Errorf("testdata/golden.json is of version %q (%v); when the change is meant, write\n%s", was.Version, err, next)
}
