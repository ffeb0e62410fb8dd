//go:build !cgo

package cryptoki

import (
	"errors"

	"moongate/internal/p11"
)

// Load refuses: a program that was built without a C compiler loads no module.
func Load(string) (p11.Module, error) {
	return nil, errors.New("this moongate-p11 was built without cgo and can load no module: install a C compiler (gcc) and run `make build` again")
}
