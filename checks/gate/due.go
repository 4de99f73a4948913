package gate

import (
	"context"
	"errors"

	"github.com/noxaudit/noxaudit/internal/store"
	"github.com/noxaudit/noxaudit/policy/waiver"
)

// Due lets time act on waivers: requests that nobody answered lapse, and what is over ends. It returns the heads to
// judge again. At most limit waivers are done at once.
func (g *Gate) Due(ctx context.Context, limit int) ([]store.HeadKey, error) {
	due, err := g.Store.DueWaivers(ctx, g.Now(), limit)
	if err != nil {
		return nil, err
	}
	var heads []store.HeadKey
	for _, w := range due {
		more, dueErr := g.due(ctx, w)
		if errors.Is(dueErr, store.ErrStale) { // somebody decided meanwhile; the next look sees what is left
			continue
		}
		err = errors.Join(err, dueErr)
		heads = append(heads, more...)
	}
	return heads, err
}

func (g *Gate) due(ctx context.Context, key store.DueWaiver) ([]store.HeadKey, error) {
	at := g.Now()
	tenant := g.Store.For(key.Account)
	row, err := tenant.WaiverByID(ctx, key.ID)
	if err != nil {
		return nil, err
	}
	w, err := readWaiver(row)
	if err != nil {
		return nil, err
	}
	facts := waiver.Facts{Time: at}
	next, event := w, ""
	for _, try := range []struct {
		act   waiver.Act
		event string
	}{{waiver.Expire{}, "waiver.expired"}, {waiver.Lapse{}, "waiver.lapsed"}} {
		var no *waiver.Refusal
		if next, err = waiver.Apply(w, try.act, facts); err == nil {
			event = try.event
			break
		} else if !errors.As(err, &no) {
			return nil, err
		}
	}
	if event == "" {
		return nil, nil
	}
	if row, err = waiverRow(next, row.Version); err != nil {
		return nil, err
	}
	c := store.Change{Time: at, Waivers: []store.Waiver{row}}
	d := next.Document
	if err := g.entry(&c, at, key.Account, "waiver/"+w.ID, event, itself,
		map[string]string{"waiver": w.ID, "repository": d.Repository.ID, "finding": d.Finding.ID}, map[string]any{"state": next.State, "until": d.Until}); err != nil {
		return nil, err
	}
	if w.State == waiver.Active {
		if err := g.affected(ctx, tenant, &c, d.Repository.ID, []string{d.Finding.Fingerprint}); err != nil {
			return nil, err
		}
	}
	if err := tenant.Commit(ctx, c); err != nil {
		return nil, err
	}
	var heads []store.HeadKey
	for _, h := range c.Want {
		heads = append(heads, store.HeadKey{Account: key.Account, Repository: h.Repository, SHA: h.SHA})
	}
	return heads, nil
}
