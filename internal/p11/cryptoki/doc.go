// Package cryptoki loads a PKCS#11 module into this process: the only cgo. It
// translates, and judges nothing; what a module's answers mean is package
// p11's. Without cgo it refuses, in words.
package cryptoki
