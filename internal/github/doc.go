// Package github is the only room that knows GitHub's types: webhooks come in, check runs go out, and what lies
// between is spoken in the words of checks/gate.
//
// In: [NewHandler] refuses whatever is not a signed JSON delivery of bearable size, hands the rest to an [Inbox],
// and answers 2xx only when the inbox holds it. [ParseEvent] turns a stored delivery into a [gate.Event].
//
// Out: [App] is one GitHub App. It publishes check runs ([gate.Publisher]), lists what GitHub knows when the gate has
// to make sure ([gate.Forge]) and hands out installation tokens for git. Every call goes through one transport that
// proves who calls, keeps to GitHub's limits, repeats what may be repeated and nothing else, and ends in one of two
// errors that a caller can act on: [gate.ErrGitHubUnavailable] for what will pass, [gate.ErrGitHubGone] for what will not.
//
// GitHub Enterprise Server differs by its addresses only: API under https://HOST/api/v3, pages and git under https://HOST.
package github

// CheckName is the name of the one check run on every commit. Branch protection names it: it never changes.
const CheckName = "noxaudit"
