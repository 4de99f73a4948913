// Package ledger records what happened in a log that nobody can quietly rewrite, and verifies such logs. It
// says "tamper-evident", never "tamper-proof": an entry can be changed by whoever owns the disk, but not
// without a signed checkpoint giving it away. This comment is the format's specification.
//
// # The line
//
// A log is a sequence of entries, each one line of UTF-8 without a newline inside. In an export every line,
// the last too, is followed by one newline (0x0A), which belongs to no hash. A line is a JSON object in exactly
// this form, with no white space outside strings:
//
//	{"v":1,"seq":N,"prev":"P","time":"T","source":"S","sseq":M,"id":"I","salt":"X","type":"E",
//	"account":"A","actor":{"kind":"K","id":"…","name":"…","via":"…","onBehalfOf":"…"},
//	"subject":{…},"content":C}
//
// (broken here for the page). The members stand in this order and none may be missing, except those of actor
// after kind, which are left out when empty.
//
//   - v is the version of this format. It is always 1; any other is an error.
//   - seq is the entry's number: 0 for the first, then one more for each. At most 2^53-1.
//   - prev is SHA-256 of the line before, without its newline, as 64 lower-case hexadecimal digits; 64 zeros
//     for the first. It is what "sha256sum" prints.
//   - time is when it happened, YYYY-MM-DDTHH:MM:SS.ffffffZ: UTC, six decimals, a date that exists, no leap
//     second. Times need not ascend; the order of a log is that of seq.
//   - source and sseq: the event is number sseq of the stream source. The entries of one source stand in order,
//     numbered 1, 2, 3, … without a gap; a gap means that an event was lost before it reached the log.
//   - id names the event: a UUIDv7 (RFC 9562) in lower case. No two entries have the same.
//   - salt is 128 random bits as 32 lower-case hexadecimal digits.
//   - type says what happened; account is the tenant, and is the same in all entries of a log.
//   - actor says who did it: kind is "user", "app", "system" or "cli", then, as far as known, the person's or
//     app's id and name, via which surface, and on behalf of whose id.
//   - subject maps strings to strings: what it happened to.
//   - content is any JSON value in which nothing stands inside more than 32 arrays and objects.
//
// source, type, account and kind are 1 to 200 bytes of printable ASCII (0x21 to 0x7E) without " and \. The body
// of a line, which is the line with "{" put for everything before "time", is smaller than 61,440 bytes.
//
// # Canonical form
//
// Everything can be written in one way only:
//
//   - The keys of subject, and of every object in content, ascend strictly, compared as UTF-8 bytes.
//   - In strings only " and \ and the control characters 0x00 to 0x1F are escaped: \" \\ \b \t \n \f \r where
//     there is such an escape, otherwise \u00 and two lower-case hexadecimal digits. All else stands for itself.
//   - A number is an optional minus, digits without a leading zero, and optionally a point and digits that do
//     not end in zero; no exponent, no negative zero, at most 40 bytes. sseq, like seq, is a whole number.
//
// # Chain and tree
//
// prev chains the lines: whoever changes one must change all that follow. The lines are also the leaves of the
// Merkle tree of RFC 6962, section 2.1: a leaf is SHA-256(0x00 ‖ line), a node SHA-256(0x01 ‖ left ‖ right), the
// root of nothing SHA-256(""). The tree makes proofs short: that an entry is in a log, that a log continues
// an earlier state of itself.
//
// # Checkpoints
//
// Chain and tree prove nothing against somebody who can compute them anew; a signature by a key they do not have
// does. A checkpoint is a text of three lines, each ended by a newline:
//
//	noxaudit/<deployment>/<account>       the origin, which names the log
//	<number of entries>                   decimal, no leading zeros
//	<root of the tree of those entries>   base64 with padding, RFC 4648 section 4
//
// as in https://c2sp.org/tlog-checkpoint, without extension lines. It is signed as a note, see
// https://c2sp.org/signed-note: an empty line follows, then a line "— <origin> <base64>" for each signature.
// What the base64 stands for is a key id of 4 bytes and an Ed25519 signature of the text. The key id is the
// beginning of SHA-256(origin ‖ 0x0A ‖ 0x01 ‖ public key). A deployment has one key and signs every log under the
// log's own name; its verifier key, noxaudit/<deployment>+<id>+<base64 of 0x01 ‖ public key>, speaks for all of
// them. Signatures by other keys are ignored, so that witnesses can add theirs; a wrong one by the right key is
// an error. A log has at most one root at each size: two checkpoints of one size that differ prove that the
// key's owner keeps two histories.
//
// # Verifying
//
// For each line: its form, seq, prev, and the canonical form; at each size that has a checkpoint, the root; at the
// end, that no checkpoint claims more entries than there are. Entries after the last checkpoint are reported as
// not yet signed; where the verifier knows the key, a log that is not signed at all, or has an entry without a
// checkpoint that is not of just now, is refused. A store's own count of entries and checkpoints must not exceed
// what is there. What a verifier cannot see from the log alone, that it was cut at an older checkpoint or
// exchanged by the owner of its key, it sees from checkpoints kept elsewhere (Options.Held).
package ledger
