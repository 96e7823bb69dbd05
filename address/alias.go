package address

import "iter"

// FollowAliases returns the domains that a canonical domain is an alias of, over all steps,
// the nearest first. Each comes once, even if it is reached twice or in a circle, and the
// domain itself does not come. The second value reports whether the target is an alias itself.
//
// The function direct returns the direct targets of a domain, domainOf the domain of a target.
func FollowAliases[T any](domain string, direct func(domain string) []T, domainOf func(T) string) iter.Seq2[T, bool] {
	return func(yield func(T, bool) bool) {
		seen := map[string]bool{domain: true}
		var queue []T
		enqueue := func(targets []T) {
			for _, t := range targets {
				if d := domainOf(t); !seen[d] {
					seen[d] = true
					queue = append(queue, t)
				}
			}
		}
		enqueue(direct(domain))
		for next := 0; next < len(queue); next++ {
			further := direct(domainOf(queue[next]))
			if !yield(queue[next], len(further) > 0) {
				return
			}
			enqueue(further)
		}
	}
}

// AliasChain follows the aliases of a map from alias to target. It returns the targets of a
// canonical domain, step by step, and whether they form a loop; the last one then repeats the
// domain or an earlier target.
func AliasChain(aliases map[string]string, domain string) (targets []string, loop bool) {
	direct := func(domain string) []string {
		if target, alias := aliases[domain]; alias {
			return []string{target}
		}
		return nil
	}
	last := domain
	_, loop = aliases[domain]
	for target, alias := range FollowAliases(domain, direct, func(d string) string { return d }) {
		targets, last, loop = append(targets, target), target, alias
	}
	if loop {
		targets = append(targets, aliases[last])
	}
	return targets, loop
}
