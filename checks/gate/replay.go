package gate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/noxaudit/noxaudit/internal/canon"
	"github.com/noxaudit/noxaudit/internal/finding"
	"github.com/noxaudit/noxaudit/internal/name"
	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/policy"
	"github.com/noxaudit/noxaudit/policy/verdict"
)

// Replayed is what became of a stored verdict when it was computed again from its stored inputs.
type Replayed struct {
	Verdict    verdict.Verdict
	Digest     string
	Difference *policy.Difference // nil: byte-identical
	Engine     string             // the version that computed it now; Verdict.Inputs.Engine did then
}

// ErrNoVerdict says that no verdict of that id is kept.
var ErrNoVerdict = errors.New("no such verdict")

// Replay computes a stored verdict again. id is a digest, or "V-" and its beginning. A difference is a
// result, not an error; an error means that the verdict or one of its inputs is missing or damaged.
func (g *Gate) Replay(ctx context.Context, account name.Account, id string) (Replayed, error) {
	tenant := g.Store.For(account)
	row, err := tenant.VerdictByID(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return Replayed{}, fmt.Errorf("replay: %w", ErrNoVerdict)
	}
	if err != nil {
		return Replayed{}, fmt.Errorf("replay: %w", err)
	}
	stored, err := tenant.Document(ctx, row.ID)
	if err != nil {
		return Replayed{}, fmt.Errorf("replay: the text of the verdict: %w", err)
	}
	v, err := verdict.ParseCanonical(stored.Body)
	if err != nil {
		return Replayed{}, fmt.Errorf("replay: %w", err)
	}
	if row.Conclusion != string(v.Conclusion) || row.Head != v.Subject.Head || row.Base != v.Subject.Base || row.Repository != v.Subject.Repository.ID {
		return Replayed{}, fmt.Errorf("replay: %w", &store.CorruptError{Noun: "verdict", Key: row.ID, Cause: errors.New("the row says something else than the verdict")})
	}
	in, err := loadInput(ctx, tenant, v)
	if err != nil {
		return Replayed{}, fmt.Errorf("replay: %w", err)
	}
	// Judged under the name of the version that judged then: what is left as a difference is the decision's.
	in.Engine = v.Inputs.Engine
	out := Replayed{Verdict: v, Digest: row.ID, Engine: g.Engine}
	err = policy.Replay(stored.Body, in)
	if errors.As(err, &out.Difference) {
		out.Difference.Engine = g.Engine
		return out, nil
	}
	return out, err
}

// loadInput reads the inputs of a verdict back, each by its digest.
func loadInput(ctx context.Context, tenant *store.Tenant, v verdict.Verdict) (policy.Input, error) {
	in := policy.Input{Subject: v.Subject}
	read := func(noun, digest string, parse func([]byte) error) error {
		d, err := tenant.Document(ctx, digest)
		if err != nil {
			return fmt.Errorf("%s: %w", noun, err)
		}
		return parse(d.Body)
	}
	err := errors.Join(
		read(kindFindings, v.Inputs.Findings, func(b []byte) (err error) { in.Findings, err = finding.ParseCanonical(b); return err }),
		read(kindPolicy, v.Inputs.Policy, func(b []byte) (err error) { in.Policy, err = policy.ParseSet(b); return err }),
		read(kindAssessments, v.Inputs.Assessments, func(b []byte) (err error) { in.Assessments, err = policy.ParseAssessments(b); return err }),
	)
	if err != nil {
		return policy.Input{}, err
	}
	// No waivers are no document.
	if none, noneErr := policy.CanonicalWaivers(nil); noneErr != nil {
		return policy.Input{}, noneErr
	} else if v.Inputs.Waivers != canon.Digest(none) {
		if err := read(kindWaivers, v.Inputs.Waivers, func(b []byte) (err error) { in.Waivers, err = policy.ParseWaivers(b); return err }); err != nil {
			return policy.Input{}, err
		}
	}
	in.Time, err = time.Parse(time.RFC3339Nano, v.Inputs.Time)
	if err != nil {
		return policy.Input{}, fmt.Errorf("time: %w", err)
	}
	return in, nil
}
