/// What a run that was killed has left behind in this host's network: of one guest, which nobody else protects now, and of
/// guests that are gone.
public struct Leftovers {
    private let network: HostNetwork
    private let buffers: [NetworkDevice]
    private let redirected: [NetworkDevice]
    private let ofDeadGuests: [NetworkDevice]

    public init(of domainID: UInt32) throws(NetworkBufferError) {
        try self.init(on: try RoutingSocket(), of: domainID, store: NetbufRecord(domainID: domainID).store)
    }

    init(on network: HostNetwork, of domainID: UInt32, store: NetbufStore) throws(NetworkBufferError) {
        self.network = network
        let devices = try network.devices()
        let ifbs = devices.compactMap { device in
            device.isIFB ? VifName(ofIFB: device.name).map { (ifb: device, name: $0) } : nil
        }
        buffers = ifbs.filter { $0.name.domainID == domainID }.map(\.ifb)
        redirected = GuestDevices(domainID: domainID, store: store).found(among: devices).map(\.vif).filter {
            if case .redirected = network.ingress(of: $0) { true } else { false }
        }
        ofDeadGuests = ifbs.filter { one in
            one.name.domainID != domainID && !store.domainExists(one.name.domainID)
                && !devices.contains { ($0.backend ?? VifName(of: $0.name)) == one.name }
        }.map(\.ifb)
    }

    /// Whether this guest's output still goes where that run had led it.
    public var areThere: Bool { !buffers.isEmpty || !redirected.isEmpty }

    /// Away with them. What they held is of an epoch that was never committed, and nobody sees it.
    public func drop(_ log: Log) {
        // In this order: a redirect that leads nowhere lets nothing out.
        delete(buffers, log)
        open(log)
        delete(ofDeadGuests, log)
    }

    /// Away with them. What they held leaves now: for a guest that has no replica that runs.
    public func release(_ log: Log) {
        for ifb in buffers { try? network.command(.releaseIndefinite, ifb) }
        network.waitUntilEmpty(buffers)
        open(log)
        network.waitUntilEmpty(buffers)
        delete(buffers + ofDeadGuests, log)
    }

    private func open(_ log: Log) {
        for vif in redirected {
            do throws(NetworkBufferError) {
                try network.removeRedirect(vif)
            } catch {
                log.error(
                    "\(error): the guest has no network until it is gone; try tc qdisc del dev \(vif.name) ingress")
            }
        }
    }

    private func delete(_ ifbs: [NetworkDevice], _ log: Log) {
        for ifb in ifbs {
            do throws(NetworkBufferError) {
                try network.delete(ifb)
                log.note("removed \(ifb.name), the network buffer that an earlier run had left behind")
            } catch {
                log.error("\(error): remove what an earlier run had left behind with ip link del \(ifb.name)")
            }
        }
    }
}
