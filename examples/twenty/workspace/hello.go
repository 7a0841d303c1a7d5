// Package hello is the code that the example's language server reads.
package hello

// Hello greets.
func Hello(name string) string { return "hello, " + name }
