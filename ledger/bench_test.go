package ledger

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// BenchmarkVerify reads an export of lines of 1 KB from memory: on one core, everything or bytes only.
func BenchmarkVerify(b *testing.B) {
	const n = 20_000
	all := events(1, n)
	for i := range all {
		all[i].Content = map[string]any{"findings": i, "note": ""}
		body, err := all[i].Body()
		if err != nil {
			b.Fatal(err)
		}
		line := len(appendLine(nil, uint64(i), Hash{}, body))
		words := strings.Repeat("finding NX-7Q2K in src/pay/charge.go; ", 40)
		all[i].Content = map[string]any{"findings": i, "note": words[:1024-line]}
	}
	log := newMemLog()
	ctx := context.Background()
	s, err := NewSequencer(ctx, &memOutbox{rows: recorded(b, all)}, log)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := s.Drain(ctx); err != nil {
		b.Fatal(err)
	}
	signer, err := NewSigner(testKey(1), log)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := signer.Sign(ctx); err != nil {
		b.Fatal(err)
	}
	e := log.export()
	for _, o := range []Options{{}, {BytesOnly: true}} {
		b.Run(fmt.Sprintf("bytesOnly=%v", o.BytesOnly), func(b *testing.B) {
			b.SetBytes(int64(len(e.lines)))
			b.ReportAllocs()
			for b.Loop() {
				v, err := Verify(ctx, e.copy(), o)
				if err != nil || v.Entries != n {
					b.Fatal(v, err)
				}
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

// BenchmarkHashing is the floor under BenchmarkVerify: the two digests of a line of 1 KB and one node, no more.
func BenchmarkHashing(b *testing.B) {
	var h hasher
	line := make([]byte, 1024)
	var tree Tree
	n := 0
	for b.Loop() {
		_, leaf := h.sums(line)
		tree.Append(leaf)
		n++
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkStrictCheck is the part that Options.BytesOnly leaves out.
func BenchmarkStrictCheck(b *testing.B) {
	line := signedLog(b, 1, 1).entries[0].Line
	var f spans
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if err := checkLine(line, &f); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBody is the cost in the request that records an event.
func BenchmarkBody(b *testing.B) {
	e := events(1, 1)[0]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Body(); err != nil {
			b.Fatal(err)
		}
	}
}
