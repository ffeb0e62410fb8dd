// Package revision keeps a gateway's configuration over time: the candidate
// that administrators edit, the running one, every version before it, and the
// locks on them.
package revision
