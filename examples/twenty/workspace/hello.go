// Package hello is what the language server of the example looks at.
package hello

// Hello greets.
func Hello(name string) string { return "hello, " + name }
