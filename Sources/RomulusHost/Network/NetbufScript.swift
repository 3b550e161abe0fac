import Synchronization

/// A script that sets a network device's buffer up and takes it down in our place, as `xl remus -N` names one.
///
/// The convention is stock's (tools/hotplug/Linux/remus-netbuf-setup): it is called with `setup` or `teardown`, finds
/// `vifname`, `XENBUS_PATH` and, for the teardown, `REMUS_IFB` in its environment, and leaves the buffering device's name
/// at XENBUS_PATH/ifb in xenstore.
struct NetbufScript: Sendable {
    private static let timeoutMilliseconds = 30_000
    let path: String
    let store: NetbufStore

    /// - Returns: the buffering device's name.
    func setUp(_ vif: String, _ name: VifName) throws(NetworkBufferError) -> String {
        let outcome = run("setup", vif, name, more: [])
        guard outcome.status == 0 else {
            throw .refused(what: "\(path) setup", device: vif, reason: outcome.complaint)
        }
        guard let ifb = store.ifb(name.deviceID) else {
            throw .refused(what: "\(path) setup", device: vif, reason: "it named no buffering device in xenstore")
        }
        return ifb
    }

    func tearDown(_ vif: String, _ name: VifName, ifb: String) {
        _ = run("teardown", vif, name, more: ["REMUS_IFB=\(ifb)"])
    }

    /// For a device that has gone, on a thread of its own.
    func tearDownAside(_ vif: String, _ name: VifName, ifb: String) {
        _ = try? Thread(name: "romulus-script") { self.tearDown(vif, name, ifb: ifb) }
    }

    private func run(_ verb: String, _ vif: String, _ name: VifName, more: [String]) -> Subprocess.Outcome {
        let environment = ["vifname=\(vif)", "XENBUS_PATH=\(store.path(name.deviceID))"] + more
        return Subprocess.run(
            ["/usr/bin/env"] + environment + [path, verb], timeoutMilliseconds: Self.timeoutMilliseconds)
    }
}

/// The script's work for a device that has come while the guest is protected, which may take half a minute: on a thread of its
/// own.
final class NetbufSetup: Sendable {
    let vif: NetworkDevice
    let name: VifName
    private let outcome: Outcome
    private let thread: Thread

    private final class Outcome: Sendable {
        let ifb = Mutex<Result<String, NetworkBufferError>?>(nil)
    }

    init(_ script: NetbufScript, _ vif: NetworkDevice, _ name: VifName) throws(SystemError) {
        let outcome = Outcome()
        self.vif = vif
        self.name = name
        self.outcome = outcome
        thread = try Thread(name: "romulus-script") {
            let ifb = Result { () throws(NetworkBufferError) in try script.setUp(vif.name, name) }
            outcome.ifb.withLock { $0 = ifb }
        }
    }

    /// The buffering device's name; nil while the script has not ended.
    var result: Result<String, NetworkBufferError>? { outcome.ifb.withLock { $0 } }

    func wait(milliseconds: Int) { thread.join(milliseconds: milliseconds) }
}

/// What xenstore knows of a guest's network devices.
public struct NetbufStore: Sendable {
    /// Of a device's record: stock keeps `ifb` under it.
    public var path: @Sendable (_ deviceID: Int) -> String
    public var setIFB: @Sendable (_ deviceID: Int, _ ifb: String?) -> Void
    public var ifb: @Sendable (_ deviceID: Int) -> String?
    /// Device numbers by the names that the guest's configuration gives them (`vifname=`).
    public var renamed: @Sendable () -> [String: Int]
    /// Yes also where xenstore does not answer.
    public var domainExists: @Sendable (_ domainID: UInt32) -> Bool

    public init(
        path: @escaping @Sendable (_ deviceID: Int) -> String,
        setIFB: @escaping @Sendable (_ deviceID: Int, _ ifb: String?) -> Void,
        ifb: @escaping @Sendable (_ deviceID: Int) -> String?, renamed: @escaping @Sendable () -> [String: Int],
        domainExists: @escaping @Sendable (_ domainID: UInt32) -> Bool
    ) {
        self.path = path
        self.setIFB = setIFB
        self.ifb = ifb
        self.renamed = renamed
        self.domainExists = domainExists
    }
}
