package secrets

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/noxaudit/noxaudit/checks/audit"
)

// goSources are some files of the standard library as clean text, 4 MB, and every planted secret.
func goSources(b *testing.B) (blobs []audit.Blob, size int64) {
	b.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatal(err)
	}
	root := filepath.Join(strings.TrimSpace(string(out)), "src")
	add := func(path string, text []byte) {
		blobs = append(blobs, audit.Blob{Path: path, Bytes: text, Seal: testSeal})
		size += int64(len(text))
	}
	for _, dir := range []string{"net", "crypto", "encoding", "database", "text", "cmd/go/internal"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || size > 4<<20 || !strings.HasSuffix(p, ".go") {
				return err
			}
			text, err := os.ReadFile(p)
			add(strings.TrimPrefix(p, root+"/"), text)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	for path, text := range corpus() {
		add(path, []byte(text))
	}
	return blobs, size
}

func BenchmarkAudit(b *testing.B) {
	a := standard(b)
	blobs, size := goSources(b)
	if _, err := a.AuditBlob(context.Background(), blobs[0]); err != nil { // compiles the rules
		b.Fatal(err)
	}
	b.Run("all", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			for _, blob := range blobs {
				if _, err := a.AuditBlob(context.Background(), blob); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("engine alone", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			for _, blob := range blobs {
				if _, err := a.engine.find(context.Background(), string(blob.Bytes), "", false); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("own rules alone", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			for _, blob := range blobs {
				if _, err := a.own.in(placeOf(blob.Path), false).find(context.Background(), string(blob.Bytes)); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

func BenchmarkMinifiedLine(b *testing.B) {
	a := standard(b)
	blob := audit.Blob{Path: "app.js", Bytes: []byte(strings.Repeat(`function(a,b){return a.token+b};var passwordField=input.value,url="https://";`, 27_000)), Seal: testSeal}
	b.SetBytes(int64(len(blob.Bytes)))
	for b.Loop() {
		if _, err := a.AuditBlob(context.Background(), blob); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReads(b *testing.B) {
	a := standard(b)
	for b.Loop() {
		a.Reads("services/billing/internal/store/migrations/0001_create.sql")
	}
}

func BenchmarkMask(b *testing.B) {
	a := standard(b)
	a.Mask("x")
	for b.Loop() {
		a.Mask("Everyone who can read this repository, its history, its forks or a copy of it can use this credential until it is revoked.")
	}
}
