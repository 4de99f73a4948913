package main

import "context"

func (p *program) demoScript(ctx context.Context, o demoOptions) error { return nil }
