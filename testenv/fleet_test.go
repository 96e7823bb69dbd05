package testenv

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

// composeFile is the part of docker-compose.yml that TestFleetParts reads.
type composeFile struct {
	Services map[string]struct {
		Networks any      `yaml:"networks"` // names, or a map by name
		Volumes  []string `yaml:"volumes"`
	} `yaml:"services"`
	Volumes map[string]any `yaml:"volumes"`
}

// networks returns the names of a service's networks.
func (c composeFile) networks(t *testing.T, service string) (names []string) {
	t.Helper()
	switch all := c.Services[service].Networks.(type) {
	case []any:
		for _, name := range all {
			names = append(names, name.(string))
		}
	case map[string]any:
		for name := range all {
			names = append(names, name)
		}
	default:
		t.Fatalf("networks of %s: %T", service, all)
	}
	slices.Sort(names)
	return names
}

// TestFleetParts: no edge is in the network of dc1, only the fleet uses its volumes, and RemoveFleet
// removes all of them.
func TestFleetParts(t *testing.T) {
	text, err := os.ReadFile("../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var compose composeFile
	if err := yaml.UnmarshalWithOptions(text, &compose, yaml.AllowDuplicateMapKey()); err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{DC: {"edge"}, DC2: {"edge"}, MX: {"edge"}, Milter: {"edge"}, Hub: {"dmz", "edge"}}
	for _, e := range Edges() {
		want[e.Daemon], want[e.MX] = []string{"dmz"}, []string{"dmz"}
	}
	for service, want := range want {
		if diff := cmp.Diff(want, compose.networks(t, service)); diff != "" {
			t.Errorf("networks of %s (-want +got):\n%s", service, diff)
		}
	}
	services, volumes := fleetParts()
	used := map[string]bool{}
	for name, service := range compose.Services {
		for _, volume := range service.Volumes {
			volume, _, _ := strings.Cut(volume, ":")
			if volume == "ca" {
				continue // of dc1
			}
			if slices.Contains(services, name) {
				used[volume] = true
			} else if slices.Contains(volumes, volume) {
				t.Errorf("service %s uses volume %s of the fleet", name, volume)
			}
		}
	}
	for _, volume := range volumes {
		if _, declared := compose.Volumes[volume]; !declared || !used[volume] {
			t.Errorf("no service of the fleet uses a volume %s of docker-compose.yml", volume)
		}
		delete(used, volume)
	}
	if len(used) > 0 {
		t.Errorf("RemoveFleet does not remove the volumes %v", used)
	}
}
