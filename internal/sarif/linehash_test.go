package sarif

import (
	"math/big"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// The published values of the algorithm, for the shortest file there is and for equal lines.
func TestLineHashesAreTheOnesThatGitHubComputes(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"an empty file has one line", "", []string{"c129715d7a2bc9a3:1"}},
		{"spaces and tabs do not count", " a\nb\n  \t\tc\n d", []string{"271789c17abda88f:1", "54703d4cd895b18:1", "180aee12dab6264:1", "a23a3dc5e078b07b:1"}},
		{"equal lines are counted until the window reaches the end", strings.Repeat("Lorem ipsum dolor sit amet.\n", 10), []string{
			"a7f2ff13bc495cf2:1", "a7f2ff13bc495cf2:2", "a7f2ff13bc495cf2:3", "a7f2ff13bc495cf2:4", "a7f2ff13bc495cf2:5", "a7f2ff13bc495cf2:6",
			"a7f2ff1481e87703:1", "a9cf91f7bbf1862b:1", "55ec222b86bcae53:1", "cc97dc7b1d7d8f7b:1", "c129715d7a2bc9a3:1",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, LineHashes([]byte(c.text))); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// slowHashes computes each line's hash from the definition alone: all units of the file, then for each line
// the polynomial over one hundred of them, in whole numbers without a rolling window.
func slowHashes(text string) []string {
	var units []int64
	var starts []int
	start, afterCR := true, false
	for _, u := range append(utf16.Encode([]rune(text)), 0xFFFF) {
		skip := u == ' ' || u == '\t' || u == '\n' && afterCR
		afterCR = u == '\r'
		if skip {
			continue
		}
		if u == '\r' {
			u = '\n'
		}
		if start {
			starts = append(starts, len(units))
		}
		start = u == '\n'
		units = append(units, int64(u))
	}
	modulus := new(big.Int).Lsh(big.NewInt(1), 64)
	seen := map[string]int{}
	var out []string
	for _, s := range starts {
		sum := new(big.Int)
		for i := s; i < s+100; i++ {
			sum.Mul(sum, big.NewInt(37))
			if i < len(units) {
				sum.Add(sum, big.NewInt(units[i]))
			}
		}
		h := sum.Mod(sum, modulus).Text(16)
		seen[h]++
		out = append(out, h+":"+strconv.Itoa(seen[h]))
	}
	return out
}

var anyText = rapid.StringOf(rapid.OneOf(
	rapid.SampledFrom([]rune{'\n', '\r', ' ', '\t', 'a', 'b', '}', '€', '\uFEFF', '😀', '\uFFFF'}), rapid.Rune()))

func TestLineHashesAgreeWithTheDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := anyText.Draw(t, "text")
		if diff := cmp.Diff(slowHashes(text), LineHashes([]byte(text))); diff != "" {
			t.Fatalf("%q (-definition +got)\n%s", text, diff)
		}
	})
}

func TestEveryLineHasAHash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := anyText.Draw(t, "text")
		// A line feed that a space parts from its carriage return is a line end of its own for Lines, and for
		// the hashes too; only their counts are compared.
		if lines, hashes := len(Lines([]byte(text))), len(LineHashes([]byte(text))); lines != hashes {
			t.Fatalf("%q: %d lines, %d hashes", text, lines, hashes)
		}
	})
}

func TestLineEndsOfAnyKindGiveTheSameHashes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := strings.ReplaceAll(anyText.Draw(t, "text"), "\r", "")
		want := LineHashes([]byte(text))
		for _, end := range []string{"\r\n", "\r"} {
			// With "\r" alone, a line feed must not follow; there is none.
			if diff := cmp.Diff(want, LineHashes([]byte(strings.ReplaceAll(text, "\n", end)))); diff != "" {
				t.Fatalf("%q with %q:\n%s", text, end, diff)
			}
		}
	})
}

func BenchmarkLineHashes(b *testing.B) {
	text := []byte(strings.Repeat("\tif err := run(ctx, args); err != nil {\n\t\treturn err\n\t}\n", 20_000))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		LineHashes(text)
	}
}
