/// A script that sets a network device's buffer up and takes it down in our place, as `xl remus -N` names one.
///
/// The convention is stock's (tools/hotplug/Linux/remus-netbuf-setup): it is called with `setup` or `teardown`, finds
/// `vifname`, `XENBUS_PATH` and, for the teardown, `REMUS_IFB` in its environment, and leaves the buffering device's name
/// at XENBUS_PATH/ifb in xenstore.
struct NetbufScript {
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

    private func run(_ verb: String, _ vif: String, _ name: VifName, more: [String]) -> Subprocess.Outcome {
        let environment = ["vifname=\(vif)", "XENBUS_PATH=\(store.path(name.deviceID))"] + more
        return Subprocess.run(
            ["/usr/bin/env"] + environment + [path, verb], timeoutMilliseconds: Self.timeoutMilliseconds)
    }
}

/// What xenstore knows of a guest's network devices.
public struct NetbufStore {
    /// Of a device's record: stock keeps `ifb` under it.
    public var path: (_ deviceID: Int) -> String
    public var setIFB: (_ deviceID: Int, _ ifb: String?) -> Void
    public var ifb: (_ deviceID: Int) -> String?
    /// Device numbers by the names that the guest's configuration gives them (`vifname=`).
    public var renamed: () -> [String: Int]
    /// Yes also where xenstore does not answer.
    public var domainExists: (_ domainID: UInt32) -> Bool

    public init(
        path: @escaping (_ deviceID: Int) -> String, setIFB: @escaping (_ deviceID: Int, _ ifb: String?) -> Void,
        ifb: @escaping (_ deviceID: Int) -> String?, renamed: @escaping () -> [String: Int],
        domainExists: @escaping (_ domainID: UInt32) -> Bool
    ) {
        self.path = path
        self.setIFB = setIFB
        self.ifb = ifb
        self.renamed = renamed
        self.domainExists = domainExists
    }
}
