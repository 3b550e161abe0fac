import ArgumentParser
import RomulusHost

struct Test: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Whether the plugins and the arbiter in /etc/xen/romulus.conf work, without harm to anybody.",
        discussion: "Each line says ok or problem. The exit status is 0 when there is no problem.")

    @Option(help: "Another configuration file.") var file = Configuration.defaultPath

    func run() throws {
        let settings: Configuration
        do throws(ConfigurationError) { settings = try Configuration(path: file) } catch { throw failure("\(error)") }
        let plugins = try load(settings.plugins)
        defer { plugins.close() }
        guard
            let arbiter = makeArbiter(
                settings, guestUUID: "test", hostName: "test", run: 0, plugins: plugins, log: Log(guest: ""))
        else {
            if settings.arbiter != .none {
                throw failure("no plugin is an arbiter: name one with `plugin', or choose another arbiter")
            }
            print(
                "ok       no arbiter: a backup takes over when its primary is silent; a primary whose backup is silent")
            print("         freezes the guest and waits for romulus resume or romulus yield")
            return
        }
        try show(arbiter.test())
    }

    private func load(_ settings: PluginSettings) throws -> PluginSet {
        do throws(PluginError) {
            let set = try PluginSet(settings, PluginHost(.test), log: Log(guest: ""))
            for plugin in set.plugins { print("ok       the plugin \(plugin.name) is loaded") }
            return set
        } catch {
            throw failure("\(error)")
        }
    }
}
