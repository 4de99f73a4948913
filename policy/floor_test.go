package policy

import (
	"testing"

	"github.com/noxaudit/noxaudit/policy/verdict"
)

func TestNobodyElseNamesAPolicyLikeTheFloors(t *testing.T) {
	src := []byte("policies:\n  noxaudit-readable-policies: {focus: policy, action: report}\n")
	for _, layer := range []Layer{LayerRepository, LayerOrganisation, LayerFile} {
		if _, err := Load(src, Origin{Layer: layer, Path: "p.yml"}); err == nil {
			t.Errorf("a document of layer %s names a policy like the floor's", layer)
		}
	}
	for _, p := range Effective(Floor(), Builtin()).Policies() {
		if p.Name == "noxaudit-readable-policies" && p.Action != verdict.Block {
			t.Errorf("the floor's policy is %q", p.Action)
		}
	}
}
