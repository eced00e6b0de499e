// Command kubelet-config tells what a kubelet makes of its configuration: it reads
// the file, the folder of drop-ins and the flags by the kubelet's own code, strictly,
// checks the result as the kubelet does, and prints it as JSON.
//
//	kubelet-config [FLAG OF THE KUBELET]...
//
// Exit code 1 and a message when the kubelet would refuse.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	cliflag "k8s.io/component-base/cli/flag"
	kubelet "k8s.io/kubelet/config/v1beta1"
	"k8s.io/kubernetes/cmd/kubelet/app/options"
	internal "k8s.io/kubernetes/pkg/kubelet/apis/config"
	"k8s.io/kubernetes/pkg/kubelet/apis/config/scheme"
	"k8s.io/kubernetes/pkg/kubelet/apis/config/v1beta1"
	"k8s.io/kubernetes/pkg/kubelet/apis/config/validation"
	"k8s.io/kubernetes/pkg/kubelet/kubeletconfig/configfiles"
	"k8s.io/kubernetes/pkg/util/filesystem"
)

// What is printed.
type effective struct {
	// The configuration, defaults filled in, flags applied.
	Configuration *kubelet.KubeletConfiguration `json:"configuration"`
	// Settings that only flags have, by the flags' names: those that were given.
	Flags map[string]string `json:"flags"`
}

func main() {
	result, err := load(os.Args[1:])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(result)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func load(arguments []string) (*effective, error) {
	flags, plain := options.NewKubeletFlags(), new(internal.KubeletConfiguration)
	given, err := parse(arguments, flags, plain)
	if err != nil {
		return nil, fmt.Errorf("flags: %w", err)
	}
	if err := options.ValidateKubeletFlags(flags); err != nil {
		return nil, fmt.Errorf("flags: %w", err)
	}
	merged, err := read(flags.KubeletConfigFile)
	if err != nil {
		return nil, err
	}
	if flags.KubeletDropinConfigDirectory != "" {
		if merged, err = dropIns(merged, flags.KubeletDropinConfigDirectory); err != nil {
			return nil, err
		}
	}
	configuration, err := complete(merged)
	if err != nil {
		return nil, err
	}
	// Flags win over files: they are read once more, over what the files said.
	gates := configuration.FeatureGates
	if _, err := parse(arguments, options.NewKubeletFlags(), configuration); err != nil {
		return nil, fmt.Errorf("flags: %w", err)
	}
	for name, value := range gates {
		if _, isSet := configuration.FeatureGates[name]; !isSet {
			configuration.FeatureGates[name] = value
		}
	}
	if err := utilfeature.DefaultMutableFeatureGate.SetFromMap(configuration.FeatureGates); err != nil {
		return nil, fmt.Errorf("feature gates: %w", err)
	}
	// The machine that judges need not have the cgroups of the one that is judged for.
	checked := configuration.DeepCopy()
	checked.FailCgroupV1 = false
	if err := validation.ValidateKubeletConfiguration(checked, utilfeature.DefaultFeatureGate); err != nil {
		return nil, fmt.Errorf("the configuration is not valid: %w", err)
	}
	printed := new(kubelet.KubeletConfiguration)
	if err := v1beta1.Convert_config_KubeletConfiguration_To_v1beta1_KubeletConfiguration(configuration, printed, nil); err != nil {
		return nil, err
	}
	return &effective{printed, given}, nil
}

// parse reads the kubelet's flags; gives those that were set.
func parse(arguments []string, flags *options.KubeletFlags, configuration *internal.KubeletConfiguration) (map[string]string, error) {
	set := pflag.NewFlagSet("kubelet", pflag.ContinueOnError)
	set.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	set.SetOutput(os.Stderr)
	flags.AddFlags(set)
	options.AddKubeletConfigFlags(set, configuration)
	if err := set.Parse(arguments); err != nil {
		return nil, err
	}
	if rest := set.Args(); len(rest) > 0 {
		return nil, fmt.Errorf("%q is no flag", rest[0])
	}
	given := map[string]string{}
	set.Visit(func(flag *pflag.Flag) { given[flag.Name] = flag.Value.String() })
	return given, nil
}

// read gives a file as JSON of the versioned type, after it was decoded strictly.
func read(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	_, codecs, err := scheme.NewSchemeAndCodecs(serializer.EnableStrict)
	if err != nil {
		return nil, err
	}
	if _, _, err := codecs.UniversalDecoder().Decode(data, nil, nil); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	loader, err := configfiles.NewFsLoader(&filesystem.DefaultFs{}, path)
	if err != nil {
		return nil, err
	}
	text, kind, err := loader.LoadIntoJSON()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if kind == nil || *kind != kubelet.SchemeGroupVersion.WithKind("KubeletConfiguration") {
		return nil, fmt.Errorf("%s: the kind is %v", path, kind)
	}
	return text, nil
}

// dropIns merges the files of a folder over a base, in the order of their names.
func dropIns(base []byte, folder string) ([]byte, error) {
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".conf" {
			return err
		}
		patch, err := read(path)
		if err != nil {
			return err
		}
		base, err = jsonpatch.MergePatch(base, patch)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the folder of drop-ins is missing: %w", err)
	}
	return base, err
}

// complete fills in the defaults.
func complete(text []byte) (*internal.KubeletConfiguration, error) {
	versioned := new(kubelet.KubeletConfiguration)
	if err := json.Unmarshal(text, versioned); err != nil {
		return nil, err
	}
	v1beta1.SetDefaults_KubeletConfiguration(versioned)
	configuration := new(internal.KubeletConfiguration)
	return configuration, v1beta1.Convert_v1beta1_KubeletConfiguration_To_config_KubeletConfiguration(versioned, configuration, nil)
}
