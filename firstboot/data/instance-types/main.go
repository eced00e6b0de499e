// Prints how many network interfaces, and IPv4 addresses on each, the default
// network card of every EC2 instance type has. A line for each family:
//
//	m5 12xlarge=8/30 ... large=3/10 ...
//
// The figures are those of the Amazon VPC CNI plugin, whose module go.mod pins; the
// names of the types are those of the AWS SDK.
package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/aws/amazon-vpc-cni-k8s/pkg/vpc"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func main() {
	families := map[string][]string{}
	// Types that the SDK does not list: withdrawn, or in few regions.
	names := append(types.InstanceType("").Values(),
		"bmn-sf1.metal", "c5a.metal", "c5ad.metal", "c7i.32xlarge", "i8g.metal-48xl",
		"m9g.medium", "m9gd.medium", "r8gb.48xlarge", "r8gb.metal-48xl")
	for _, name := range names {
		limits, known := vpc.GetInstance(string(name))
		if !known {
			continue
		}
		family, size, _ := strings.Cut(string(name), ".")
		interfaces := limits.ENILimit
		for _, card := range limits.NetworkCards {
			if int(card.NetworkCardIndex) == limits.DefaultNetworkCardIndex {
				interfaces = int(card.MaximumNetworkInterfaces)
			}
		}
		families[family] = append(families[family], fmt.Sprintf("%s=%d/%d", size, interfaces, limits.IPv4Limit))
	}
	if len(families) == 0 {
		fmt.Fprintln(os.Stderr, "the module knows no instance type")
		os.Exit(1)
	}
	lines := make([]string, 0, len(families))
	for family, sizes := range families {
		slices.Sort(sizes)
		lines = append(lines, family+" "+strings.Join(sizes, " "))
	}
	slices.Sort(lines)
	fmt.Println(strings.Join(lines, "\n"))
}
