package work

import (
	"context"
	"time"

	"github.com/noxaudit/noxaudit/internal/store"
)

// A job that has just ended is still "running" for River until it has written that down, and being unique it keeps the
// next one of the same head away. The look would find the head seconds later; who waits for a check is served sooner.
const (
	eagerEvery = 20 * time.Millisecond
	eagerTries = 150
)

// eager inserts again the jobs of heads that were kept away, until one is taken or nobody wants the head any more.
func (w *Worker) eager(ctx context.Context) {
	pending := map[store.HeadKey]int{}
	ticker := time.NewTicker(eagerEvery)
	defer ticker.Stop()
	for {
		tick := ticker.C
		if len(pending) == 0 {
			tick = nil // nothing to do until a head comes
		}
		select {
		case <-ctx.Done():
			return
		case h := <-w.keptAway:
			pending[h] = 0
			continue
		case <-tick:
		}
		for h, tries := range pending {
			head, err := w.o.Gate.Store.For(h.Account).Head(ctx, h.Repository, h.SHA)
			if err == nil && head.Wanted > head.Done {
				var refused bool
				if refused, err = w.queue.insert(ctx, headArgs{h.Account.String(), h.Repository, h.SHA.String()}); err == nil && refused && tries < eagerTries {
					pending[h] = tries + 1
					continue
				}
			}
			delete(pending, h) // served, or left to the look
		}
	}
}
