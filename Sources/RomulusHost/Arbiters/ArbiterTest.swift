/// Whether the plugins and the arbiter of a configuration work, without harm to anybody.
///
/// - Returns: nothing where there are neither.
public func testArbiter(_ configuration: Configuration) -> [CheckLine] {
    let plugins: PluginSet
    do throws(PluginError) {
        plugins = try PluginSet(configuration.plugins, PluginHost(.test), log: Log(guest: ""))
    } catch {
        return [.problem("\(error)")]
    }
    defer { plugins.close() }
    let loaded: [CheckLine] = plugins.plugins.map { .ok("the plugin \($0.name) is loaded") }
    let arbiter = makeArbiter(
        configuration, guestUUID: "test", hostName: "test", run: 0, plugins: plugins, log: Log(guest: ""))
    if let arbiter { return loaded + arbiter.test() }
    return configuration.arbiter == .none
        ? loaded : loaded + [.problem("no plugin is an arbiter: name one with `plugin', or choose another arbiter")]
}
