package secrets

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/noxaudit/noxaudit/checks/audit"
	gitleaks "github.com/zricethezav/gitleaks/v8/config"
	"pgregory.net/rapid"
)

// alone are the plants that a line of its own tells.
func alone() []plant {
	var ps []plant
	for _, p := range plants() {
		if p.rule != "pgpass-password" && p.rule != "htpasswd-hash" {
			ps = append(ps, p)
		}
	}
	return ps
}

func shows(text, secret string) bool {
	secret = secret[header(secret):]
	secret, _, _ = strings.Cut(secret, "-----END ")
	for i := 0; i+gram <= len(secret); i++ {
		if strings.Contains(text, secret[i:i+gram]) {
			return true
		}
	}
	return false
}

func TestMaskHidesEveryKindOfSecret(t *testing.T) {
	a := standard(t)
	for _, p := range alone() {
		secret := p.secret(newForger(11))
		got := a.Mask(fmt.Sprintf(p.line, secret))
		if shows(got, secret) || !strings.Contains(got, masked) {
			t.Errorf("%s in %s stays: %s", p.rule, p.path, got)
		}
	}
}

func TestMaskedTextsShowNoSecretAndMaskingAgainChangesNothing(t *testing.T) {
	a := standard(t)
	all := alone()
	rapid.Check(t, func(t *rapid.T) {
		var secrets []string
		var text strings.Builder
		for range rapid.IntRange(0, 4).Draw(t, "plants") {
			p := all[rapid.IntRange(0, len(all)-1).Draw(t, "kind")]
			line := p.line
			secret := p.secret(newForger(rapid.Uint64().Draw(t, "seed")))
			ds, err := a.AuditBlob(context.Background(), audit.Blob{Path: p.path, Bytes: []byte(fmt.Sprintf(line, secret) + "\n"), Seal: testSeal})
			if err != nil {
				t.Fatal(err)
			}
			if len(ds) > 0 { // it is not too plain by chance
				secrets = append(secrets, secret)
			}
			text.WriteString(clutter.Draw(t, "before") + "\n" + fmt.Sprintf(line, secret) + "\n")
		}
		text.WriteString(clutter.Draw(t, "after"))
		got := a.Mask(text.String())
		for _, secret := range secrets {
			if shows(got, secret) {
				t.Fatalf("%s\nstays in\n%s", secret, got)
			}
		}
		if again := a.Mask(got); again != got {
			t.Fatalf("masking\n%s\nagain gives\n%s", got, again)
		}
	})
}

func TestMaskLeavesOtherTextsAlone(t *testing.T) {
	a := standard(t)
	for _, text := range []string{
		"", "***", "Password in a URL", "lodash 4.17.20 has a known vulnerability (GHSA-35jh-r3h4-6jhm)", "token := os.Getenv(\"TOKEN\")",
		"commit 5b3e2f0c1d9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c changes the key of the cache", "password = \"changeme\"", "https://user:password@example.com/x",
		"tässä ei ole mitään \xff\xfe\x00", "-----BEGIN PRIVATE " + "KEY-----\n...", "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
	} {
		if got := a.Mask(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestMaskLeavesWhatOurRulesSayAlone(t *testing.T) {
	a := standard(t)
	ids := []string{}
	for _, r := range own() {
		ids = append(ids, r.ID)
	}
	rules, err := parse([]byte(gitleaks.DefaultConfig))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules.Rules {
		ids = append(ids, r.ID)
	}
	for _, id := range ids {
		c := a.card(id)
		for _, text := range []string{c.title, c.message, c.remediation} {
			if got := a.Mask(text); got != text {
				t.Errorf("%s: %q became %q", id, text, got)
			}
		}
	}
}

func TestMaskHidesAKeyThatWasCutOff(t *testing.T) {
	a := standard(t)
	key := newForger(3).pem("RSA " + "PRIVATE")
	for name, part := range map[string]string{"the end": key[:400], "the beginning": key[200:]} {
		if got := a.Mask(part); shows(got, key) {
			t.Errorf("without %s: %s", name, got)
		}
	}
}

func TestMaskCutsALongTextAndNoTokenInTwo(t *testing.T) {
	a := standard(t)
	secret := pat(6)
	for at := MaxMasked - oneToken - 300; at < MaxMasked+20; at += 23 {
		for _, unit := range []string{"x ", "\u00fc", "-"} {
			got := a.Mask(strings.Repeat(unit, at/len(unit)) + secret + strings.Repeat(unit, 2*MaxMasked))
			if shows(got, secret) || len(got) > MaxMasked || !utf8.ValidString(got) || a.Mask(got) != got {
				t.Fatalf("%q, at %d: …%s", unit, at, got[max(0, len(got)-200):])
			}
		}
	}
}

func TestMaskHidesAllWhenTheEngineFails(t *testing.T) {
	a := standard(t)
	for _, broken := range []finder{failing{errors.New("broken")}, nil} {
		a.finder = broken
		if got := a.Mask("some text"); got != masked {
			t.Errorf("got %q", got)
		}
	}
}

func FuzzMask(f *testing.F) {
	for i, p := range plants() {
		f.Add(fmt.Sprintf(p.line, p.secret(newForger(uint64(i)))))
	}
	f.Add("-----END PRIVATE -----BEGIN PRIVATE")
	a := standard(f)
	f.Fuzz(func(t *testing.T, text string) {
		got := a.Mask(text)
		if len(got) > max(MaxMasked, len(text)) || a.Mask(got) != got {
			t.Fatalf("%q becomes %q, then %q", text, got, a.Mask(got))
		}
	})
}
