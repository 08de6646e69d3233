package main

import (
	"bytes"
	"context"
	"sync"

	provider "github.com/pulumi/pulumi-go-provider"
)

// logger shows a command's output as it comes, a whole line at a time. It has no limit on a line's length: the real
// plug-in stops reading at 64 KiB and the command then hangs on a full pipe.
type logger struct {
	ctx   context.Context
	mutex sync.Mutex
	rest  []byte
}

// flush shows a last line that had no end.
func (l *logger) flush() {
	if len(l.rest) > 0 {
		provider.GetLogger(l.ctx).InfoStatus(string(l.rest))
		l.rest = nil
	}
}

func (l *logger) Write(output []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.rest = append(l.rest, output...)
	for {
		end := bytes.IndexByte(l.rest, '\n')
		if end < 0 {
			return len(output), nil
		}
		provider.GetLogger(l.ctx).InfoStatus(string(l.rest[:end]))
		l.rest = l.rest[end+1:]
	}
}
