import CNetlink
import Glibc
import RomulusCore

/// Holds what a guest sends until its epoch is committed.
///
///     vif5.0 ── ingress: matchall ── redirect ──▶ rom5.0 (an IFB): plug ── when released ──▶ as if vif5.0 had sent it
///
/// A guest's output is *ingress* in dom0, where nothing can be queued; the IFB gives it a queue. The paper of 2008 has the
/// scheme in its section 4.5; Xen's own is tools/libs/light/libxl_netbuffer.c.
public final class NetworkBuffer: OutputBuffer {
    private struct Buffered {
        var vif: NetworkDevice
        var name: VifName
        var ifb: NetworkDevice
        /// A script may have led it there by other means.
        var isFiltered = true
    }

    private let guest: GuestDevices
    private let limitBytes: Int
    private let store: NetbufStore
    private let script: NetbufScript?
    private let log: Log
    private let socket: HostNetwork
    private let counter: HeldCounter
    private var buffered: [Buffered] = []
    /// A script works on them.
    private var comingUp: [NetbufSetup] = []
    /// Not to be tried again: trying is itself a change of this host's devices.
    private var refused: Set<Int32> = []
    private var epochs = OutputEpochs()
    /// Of devices that have gone.
    private var earlierDrops = 0
    private var isOver = false
    /// When everything was last known to be as it must.
    private var quietSince = MonotonicTime.now

    /// - Parameters:
    ///   - limitBytes: what may wait for each network device; more is dropped.
    ///   - script: sets the devices up in our place; nil where we do it ourselves.
    /// - Throws: with nothing changed.
    public convenience init(
        domainID: UInt32, limitBytes: Int, store: NetbufStore, script: String? = nil, log: Log
    ) throws(NetworkBufferError) {
        if script == nil { Self.loadModule() }
        try self.init(
            on: try RoutingSocket(), counter: HeldCounter(try RoutingSocket(), isAside: true), domainID: domainID,
            limitBytes: limitBytes, store: store, script: script, log: log)
    }

    init(
        on network: HostNetwork, counter: HeldCounter? = nil, domainID: UInt32, limitBytes: Int, store: NetbufStore,
        script: String? = nil, log: Log
    ) throws(NetworkBufferError) {
        self.counter = counter ?? HeldCounter(network, isAside: false)
        guest = GuestDevices(domainID: domainID, store: store)
        self.limitBytes = limitBytes
        self.store = store
        self.script = script.map { NetbufScript(path: $0, store: store) }
        self.log = log
        socket = network
        try network.watch()
        for (vif, name) in guest.found(among: try socket.devices()) { try pickUp(vif, name) }
    }

    deinit { releaseEverything() }

    /// The kernel loads it when the first IFB is made, and then it makes two of its own, which stay. A script may count on
    /// those. Where this fails the kernel does it, or says what is missing.
    private static func loadModule() {
        guard access("/sys/module/ifb", F_OK) != 0 else { return }
        _ = Subprocess.run(["/sbin/modprobe", "-q", "ifb", "numifbs=0"], timeoutMilliseconds: 10_000)
    }

    /// The guest's network devices, by their numbers, whose output is held.
    public var deviceIDs: Set<Int> { Set(buffered.map(\.name.deviceID)) }

    // MARK: Network devices that come and go

    public var changeDescriptor: Int32 { socket.changeDescriptor }

    public func linksChanged() throws(NetworkBufferError) {
        if socket.takeChanges() { try lookAtDevices() }
        linksAreQuiet()
    }

    public func linksAreQuiet() {
        quietSince = .now
        if !comingUp.isEmpty { takeWhatIsUp() }
    }

    private func lookAtDevices() throws(NetworkBufferError) {
        guard !isOver else { return }
        let devices = try socket.devices()
        let present = guest.found(among: devices)
        // One dump of the host's queues, however many devices the guest has.
        let plugged = buffered.isEmpty ? [] : socket.plugged()
        for one in buffered where !present.contains(where: { $0.vif.index == one.vif.index }) { letGo(one) }
        for (vif, name) in present {
            if let known = buffered.firstIndex(where: { $0.vif.index == vif.index }) {
                buffered[known].vif = vif
                do throws(NetworkBufferError) {
                    try holdAgain(known, devices, plugged)
                } catch {
                    // One that is just going is let go when that is heard.
                    if try socket.devices().contains(where: { $0.index == vif.index }) { throw error }
                }
            } else if !refused.contains(vif.index), !comingUp.contains(where: { $0.vif.index == vif.index }) {
                welcome(vif, name)
            }
        }
    }

    private func welcome(_ vif: NetworkDevice, _ name: VifName) {
        guard let script else { return welcome(vif) { () throws(NetworkBufferError) in try pickUp(vif, name) } }
        // Nobody waits for it here: `takeWhatIsUp` does the rest.
        if let setup = try? NetbufSetup(script, vif, name) { comingUp.append(setup) }
    }

    private func takeWhatIsUp() {
        for setup in comingUp {
            guard let result = setup.result else { continue }
            comingUp.removeAll { $0 === setup }
            let isThere = (try? socket.devices().contains { $0.index == setup.vif.index }) ?? true
            guard isThere else {
                if case .success(let ifb) = result { script?.tearDownAside(setup.vif.name, setup.name, ifb: ifb) }
                continue
            }
            welcome(setup.vif) { () throws(NetworkBufferError) in
                try add(setup.vif, setup.name, device(named: try result.get()))
            }
        }
    }

    private func welcome(_ vif: NetworkDevice, _ hold: () throws(NetworkBufferError) -> Void) {
        do throws(NetworkBufferError) {
            try hold()
            log.note("\(vif.name) has come and is buffered from now on")
        } catch {
            refused.insert(vif.index)
            log.error("\(vif.name) has come and its output is NOT held (\(error)): detach it, or end xl remus")
        }
    }

    /// Others change this host's network too, and a redirect that is gone is not missed by the guest.
    private func holdAgain(
        _ place: Int, _ devices: [NetworkDevice], _ plugged: Set<Int32>
    ) throws(NetworkBufferError) {
        let one = buffered[place]
        let hasBuffer = devices.contains { $0.index == one.ifb.index }
        let hasPlug = hasBuffer && plugged.contains(one.ifb.index)
        let ingress = socket.ingress(of: one.vif)
        // A script's redirect is its own; some filter stands there while it does.
        let isRedirected =
            script == nil ? ingress == .redirected(to: one.ifb.index) : ingress != .free || !one.isFiltered
        if hasPlug, isRedirected { return }
        let lost = !hasBuffer ? one.ifb.name : !isRedirected ? "the redirect" : "the queue of \(one.ifb.name)"
        if let script {
            throw .refused(
                what: "holding the output", device: one.vif.name,
                reason: "somebody has removed \(lost), which \(script.path) had made")
        }
        if ingress == .foreign { throw .ingressInUse(device: one.vif.name) }
        if !hasBuffer { buffered[place].ifb = try socket.addIFB(one.name.ifb) }
        let ifb = buffered[place].ifb
        if !hasPlug { try plug(ifb) }
        if !(isRedirected && hasBuffer) {
            try socket.removeRedirect(one.vif)
            try socket.redirect(one.vif, to: ifb)
        }
        log.warning(
            "somebody (tc, Open vSwitch) has removed \(lost) behind \(one.vif.name): its output was not held for at most"
                + " \((.now - quietSince).inMilliseconds + 1) ms, and is held again")
    }

    /// The plug before the redirect, and closed where the others are: not one packet slips through.
    private func pickUp(_ vif: NetworkDevice, _ name: VifName) throws(NetworkBufferError) {
        let ifb: NetworkDevice
        if let script { ifb = try device(named: try script.setUp(vif.name, name)) } else { ifb = try setUp(vif, name) }
        try add(vif, name, ifb)
    }

    private func add(_ vif: NetworkDevice, _ name: VifName, _ ifb: NetworkDevice) throws(NetworkBufferError) {
        let isFiltered = script == nil || socket.ingress(of: vif) != .free
        buffered.append(Buffered(vif: vif, name: name, ifb: ifb, isFiltered: isFiltered))
        if script != nil { try socket.command(epochs.isHolding ? .buffer : .releaseIndefinite, ifb) }
        if script == nil, !name.isEmulated { store.setIFB(name.deviceID, ifb.name) }
    }

    private func setUp(_ vif: NetworkDevice, _ name: VifName) throws(NetworkBufferError) -> NetworkDevice {
        let ifb = try socket.addIFB(name.ifb)
        do throws(NetworkBufferError) {
            try plug(ifb)
            try socket.redirect(vif, to: ifb)
            return ifb
        } catch {
            try? socket.delete(ifb)
            throw error
        }
    }

    private func plug(_ ifb: NetworkDevice) throws(NetworkBufferError) {
        try socket.addPlug(ifb, limitBytes: limitBytes)
        // What is sent before the first epoch's end is nobody's to hold.
        try socket.command(epochs.isHolding ? .buffer : .releaseIndefinite, ifb)
    }

    private func device(named name: String) throws(NetworkBufferError) -> NetworkDevice {
        guard let device = try socket.devices().first(where: { $0.name == name }) else {
            throw .refused(what: "the buffer device", device: name, reason: "it is not there")
        }
        return device
    }

    private func letGo(_ one: Buffered) {
        earlierDrops += socket.plugStatistics([one.ifb]).drops
        if let script {
            script.tearDownAside(one.vif.name, one.name, ifb: one.ifb.name)
        } else {
            takeDown(one, keepsRedirect: true)
        }
        buffered.removeAll { $0.vif.index == one.vif.index }
        log.note("\(one.vif.name) has gone and is let go")
    }

    /// A redirect that is kept leads to a device that is gone: the kernel drops what comes.
    private func takeDown(_ one: Buffered, keepsRedirect: Bool) {
        if let script { return script.tearDown(one.vif.name, one.name, ifb: one.ifb.name) }
        if !keepsRedirect { removeRedirect(one.vif) }
        try? socket.delete(one.ifb)
        if !one.name.isEmulated { store.setIFB(one.name.deviceID, nil) }
    }

    private func removeRedirect(_ vif: NetworkDevice) {
        do throws(NetworkBufferError) {
            try socket.removeRedirect(vif)
        } catch {
            log.error("\(error): the guest has no network until it is gone; try tc qdisc del dev \(vif.name) ingress")
        }
    }

    // MARK: Epochs

    public func holdEpoch() throws(NetworkBufferError) {
        try linksChanged()
        do throws(OutputEpochs.NotReleased) { try epochs.hold() } catch { throw .epochNotReleased }
        try commandAll(.buffer)
    }

    public func releaseEpoch() throws(NetworkBufferError) {
        epochs.release()
        try commandAll(.releaseOne)
    }

    /// A device may vanish at any time; then what it held is nobody's any more. So may its plug.
    private func commandAll(_ command: PlugCommand) throws(NetworkBufferError) {
        for index in buffered.map(\.vif.index) {
            guard let one = buffered.first(where: { $0.vif.index == index }) else { continue }
            do throws(NetworkBufferError) {
                try socket.command(command, one.ifb)
            } catch {
                try lookAtDevices()
                guard let again = buffered.first(where: { $0.vif.index == index }) else { continue }
                try socket.command(command, again.ifb)
            }
        }
    }

    public var held: HeldOutput {
        let sum = counter.look(at: buffered.map(\.ifb))
        countedAt = sum.at
        return HeldOutput(packets: sum.packets, bytes: sum.bytes, droppedPackets: sum.drops + earlierDrops)
    }

    /// Of what `held` said last.
    public private(set) var countedAt = MonotonicTime.now

    // MARK: The end

    public func releaseEverything() {
        guard !isOver else { return }
        for one in buffered { try? socket.command(.releaseIndefinite, one.ifb) }
        // A plug that comes up later than that holds nothing before it is told to.
        for setup in comingUp { setup.wait(milliseconds: 2000) }
        takeWhatIsUp()
        isOver = true
        for one in buffered { try? socket.command(.releaseIndefinite, one.ifb) }
        socket.waitUntilEmpty(buffered.map(\.ifb))
        if script == nil { for one in buffered { removeRedirect(one.vif) } }
        socket.waitUntilEmpty(buffered.map(\.ifb))
        for one in buffered { takeDown(one, keepsRedirect: false) }
        buffered = []
    }

    public func dropEverything() {
        guard !isOver else { return }
        isOver = true
        // A script's teardown would let out what comes: it is left to the end of the domain.
        if script == nil { for one in buffered { takeDown(one, keepsRedirect: true) } }
        buffered = []
    }
}
