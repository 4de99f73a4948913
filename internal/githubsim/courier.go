package githubsim

import (
	"context"
	"sync"
	"time"
)

// courier delivers webhooks in the background, in order when it has one worker.
type courier struct {
	send func(context.Context, *delivery)
	ctx  context.Context
	stop context.CancelFunc

	mu      sync.Mutex
	changed *sync.Cond
	waiting []*delivery
	held    []*delivery // sent after the next one
	busy    int         // being sent, or waiting for their time
	closed  bool
}

func newCourier(workers int, send func(context.Context, *delivery)) *courier {
	c := &courier{send: send}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.changed = sync.NewCond(&c.mu)
	for range workers {
		go c.work()
	}
	return c
}

func (c *courier) work() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for len(c.waiting) == 0 && !c.closed {
			c.changed.Wait()
		}
		if c.closed {
			return
		}
		d := c.waiting[0]
		c.waiting = c.waiting[1:]
		c.busy++
		c.mu.Unlock()
		c.send(c.ctx, d)
		c.mu.Lock()
		c.busy--
		c.changed.Broadcast()
	}
}

func (c *courier) add(ds ...*delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = append(append(c.waiting, ds...), c.held...)
	c.held = nil
	c.changed.Broadcast()
}

// hold keeps a delivery until another one has gone before it.
func (c *courier) hold(d *delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = append(c.held, d)
}

func (c *courier) later(delay time.Duration, d *delivery) {
	c.mu.Lock()
	c.busy++
	c.mu.Unlock()
	time.AfterFunc(delay, func() {
		c.add(d)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.busy--
		c.changed.Broadcast()
	})
}

// flush lets held deliveries go and waits for all.
func (c *courier) flush(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.changed.Broadcast()
	})()
	c.add()
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.waiting)+c.busy > 0 && ctx.Err() == nil && !c.closed {
		c.changed.Wait()
	}
	return ctx.Err()
}

func (c *courier) close() {
	c.stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.changed.Broadcast()
}
