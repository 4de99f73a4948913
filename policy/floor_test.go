package policy

import (
	"testing"

	"github.com/noxaudit/noxaudit/policy/verdict"
)

func TestTheFloorStandsAboveEveryDocument(t *testing.T) {
	loose, err := Load([]byte("policies:\n  noxaudit-readable-policies: {focus: policy, action: report}\n"), Origin{Layer: LayerRepository, Path: "p.yml"})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range Effective(Floor(), loose).Policies() {
		if p.Name == "noxaudit-readable-policies" && p.Action != verdict.Block {
			t.Errorf("a repository made the floor's policy %q", p.Action)
		}
	}
}
