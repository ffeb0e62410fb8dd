// Package plane is the data plane of a gateway as it runs: it makes listeners,
// certifiers and a policy of a configuration, and changes from one to the next
// without a connection noticing.
package plane
