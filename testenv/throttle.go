package testenv

import (
	"context"
	"fmt"
	"strconv"
)

// throttlePeriod is the scheduling period of Throttle, in microseconds.
const throttlePeriod = 100_000

// Throttle limits a service to this percentage of one processor. Its answers stay correct but
// become slow. Zero removes the limit.
func (h *Harness) Throttle(ctx context.Context, service string, percent int) error {
	if percent < 0 {
		return fmt.Errorf("throttle %s: %d percent is negative", service, percent)
	}
	quota := -1
	if percent > 0 {
		quota = throttlePeriod * percent / 100
	}
	return h.containerCommand(ctx, service, "update",
		"--cpu-period", strconv.Itoa(throttlePeriod), "--cpu-quota", strconv.Itoa(quota))
}
