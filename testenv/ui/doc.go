// Package ui tests what people see of the built program: the status page in Chromium, and commands
// on a terminal. It is a module of its own, so its tests run with
//
//	go -C testenv/ui test -count=1 ./...
package ui
