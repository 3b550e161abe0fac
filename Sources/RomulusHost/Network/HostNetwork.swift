/// What buffering needs of the host's network; the kernel's is `RoutingSocket`.
protocol HostNetwork: AnyObject {
    // MARK: Devices

    func devices() throws(NetworkBufferError) -> [NetworkDevice]
    /// An IFB of this name, up.
    func addIFB(_ name: String) throws(NetworkBufferError) -> NetworkDevice
    /// No failure where it is gone already.
    func delete(_ device: NetworkDevice) throws(NetworkBufferError)

    // MARK: The redirect

    /// Every packet that `device` hands to this host goes to `target` instead: all of them, whatever their ethertype.
    func redirect(_ device: NetworkDevice, to target: NetworkDevice) throws(NetworkBufferError)
    /// No failure where there is none.
    func removeRedirect(_ device: NetworkDevice) throws(NetworkBufferError)
    /// What becomes first of a packet that `device` hands to this host.
    func ingress(of device: NetworkDevice) -> Ingress

    // MARK: The plug

    /// A plug at the root of `device` for at most `limitBytes`. The kernel makes it closed.
    func addPlug(_ device: NetworkDevice, limitBytes: Int) throws(NetworkBufferError)
    /// The indexes of devices that have a plug at their root.
    func plugged() -> Set<Int32>
    func command(_ command: PlugCommand, _ device: NetworkDevice) throws(NetworkBufferError)
    /// Of the plugs of these devices together.
    func plugStatistics(_ devices: [NetworkDevice]) -> (packets: Int, bytes: Int, drops: Int)
    func waitUntilEmpty(_ devices: [NetworkDevice])

    // MARK: Changes

    /// From now on `changeDescriptor` is readable when devices, or what hangs on them, may have changed.
    func watch() throws(NetworkBufferError)
    var changeDescriptor: Int32 { get }
    /// Whether there was any since the last call.
    func takeChanges() -> Bool
}

enum PlugCommand {
    case buffer
    case releaseOne
    case releaseIndefinite
}

enum Ingress: Equatable {
    /// It goes its own way.
    case free
    /// Our filter stands first, and leads to the device of this index.
    case redirected(to: Int32)
    /// Somebody else's filter stands first.
    case foreign
}

/// A network device of this host. Names change, indexes do not.
struct NetworkDevice: Equatable {
    var index: Int32
    var name: String
    var isIFB = false
    /// Whose it is, where the kernel says so: of a device that netback has made.
    var backend: VifName?
}

/// What can go wrong with a network buffer, in an admin's words.
public enum NetworkBufferError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The kernel does not know this kind of device, queue, classifier or action.
    case missingModule(String)
    /// Somebody else's ingress queue stands where ours must.
    case ingressInUse(device: String)
    case refused(what: String, device: String, reason: String)
    /// A second epoch was to be closed before the first one was released (`OutputEpochs`).
    case epochNotReleased

    public var description: String {
        switch self {
        case .missingModule(let name):
            "this kernel has no \(name): install the kernel's modules, and see whether `modprobe \(name)' works"
        case .ingressInUse(let device):
            "\(device) has an ingress queue of somebody else's: remove it with tc qdisc del dev \(device) ingress"
        case .refused(let what, let device, let reason):
            "\(what) of \(device) failed: \(reason)"
        case .epochNotReleased:
            "an epoch of output was to be closed before the last one was released"
        }
    }
}
