import CNetlink
import Glibc
import RomulusCore

/// The few verbs of rtnetlink that buffering needs, through libnl. Calls wait for the kernel's answer.
final class RoutingSocket: HostNetwork {
    /// tc's handle 1: of the plug; any would do.
    private static let plugHandle: UInt32 = 1 << 16
    /// By its priority a filter is known for ours ("RM").
    private static let filterPriority: UInt16 = 0x524D

    private let socket: OpaquePointer
    private var monitor: NetworkMonitor?

    init() throws(NetworkBufferError) {
        guard let socket = nl_socket_alloc() else {
            throw .refused(what: "opening a socket", device: "the kernel's network", reason: "out of memory")
        }
        self.socket = socket
        let code = nl_connect(socket, NETLINK_ROUTE)
        guard code == 0 else { throw Self.failure(code, "opening a socket", "the kernel's network") }
    }

    deinit { nl_socket_free(socket) }

    // MARK: Links

    func devices() throws(NetworkBufferError) -> [NetworkDevice] {
        var cache: OpaquePointer?
        let code = rtnl_link_alloc_cache(socket, AF_UNSPEC, &cache)
        guard code == 0, let cache else { throw Self.failure(code, "the list", "network devices") }
        defer { nl_cache_free(cache) }
        var found: [NetworkDevice] = []
        var next = nl_cache_get_first(cache)
        while let link = next {
            if let name = rtnl_link_get_name(link).map({ String(cString: $0) }) {
                let kind = rtnl_link_get_type(link).map { String(cString: $0) }
                found.append(
                    NetworkDevice(
                        index: rtnl_link_get_ifindex(link), name: name, isIFB: kind == "ifb",
                        backend: kind == nil ? Self.backend(of: name) : nil))
            }
            next = nl_cache_get_next(link)
        }
        return found
    }

    /// The xenbus device behind a network device, as sysfs has it: "backend/vif/5/0".
    private static func backend(of name: String) -> VifName? {
        guard let bytes = try? FileContents.read("/sys/class/net/\(name)/device/nodename", limitBytes: 256) else {
            return nil
        }
        return VifName(ofBackend: String(decoding: bytes, as: UTF8.self))
    }

    /// An IFB of this name, up. It gets no address of its own, whose packets would wait among the guest's.
    func addIFB(_ name: String) throws(NetworkBufferError) -> NetworkDevice {
        try withLink(name) { link throws(NetworkBufferError) in
            rtnl_link_set_name(link, name)
            // libnl knows no type of that name, and passes it on.
            rtnl_link_set_type(link, "ifb")
            let code = rtnl_link_add(socket, link, NLM_F_CREATE | NLM_F_EXCL)
            guard code == 0 else { throw Self.failure(code, "making the buffer device", name, module: "ifb") }
        }
        guard let device = try devices().first(where: { $0.name == name }) else {
            throw .refused(what: "making the buffer device", device: name, reason: "it is not there")
        }
        try withLink(name) { change throws(NetworkBufferError) in
            // A kernel without IPv6 has no such setting, and needs none.
            rtnl_link_inet6_set_addr_gen_mode(change, UInt8(IN6_ADDR_GEN_MODE_NONE.rawValue))
            _ = self.change(device, change)
        }
        try withLink(name) { change throws(NetworkBufferError) in
            rtnl_link_set_flags(change, UInt32(IFF_UP.rawValue))
            let code = self.change(device, change)
            guard code == 0 else { throw Self.failure(code, "the start", name) }
        }
        return device
    }

    private func change(_ device: NetworkDevice, _ change: OpaquePointer) -> Int32 {
        guard let original = rtnl_link_alloc() else { return -NLE_NOMEM }
        defer { rtnl_link_put(original) }
        rtnl_link_set_ifindex(original, device.index)
        return rtnl_link_change(socket, original, change, 0)
    }

    private func withLink(
        _ name: String, _ body: (OpaquePointer) throws(NetworkBufferError) -> Void
    ) throws(NetworkBufferError) {
        guard let link = rtnl_link_alloc() else {
            throw .refused(what: "making", device: name, reason: "out of memory")
        }
        defer { rtnl_link_put(link) }
        try body(link)
    }

    func delete(_ device: NetworkDevice) throws(NetworkBufferError) {
        guard let link = rtnl_link_alloc() else { return }
        defer { rtnl_link_put(link) }
        rtnl_link_set_ifindex(link, device.index)
        let code = rtnl_link_delete(socket, link)
        guard code == 0 || code == -NLE_OBJ_NOTFOUND || code == -NLE_NODEV else {
            throw Self.failure(code, "the removal", device.name)
        }
    }

    // MARK: The redirect

    func redirect(_ device: NetworkDevice, to target: NetworkDevice) throws(NetworkBufferError) {
        try withIngress(device) { qdisc throws(NetworkBufferError) in
            let code = rtnl_qdisc_add(socket, qdisc, NLM_F_CREATE | NLM_F_EXCL)
            if code == -NLE_EXIST { throw .ingressInUse(device: device.name) }
            guard code == 0 else { throw Self.failure(code, "the ingress queue", device.name, module: "sch_ingress") }
        }
        do {
            try addFilter(device, target)
        } catch {
            try? removeRedirect(device)
            throw error
        }
    }

    private func addFilter(_ device: NetworkDevice, _ target: NetworkDevice) throws(NetworkBufferError) {
        let code = try add(filterOf: device, [.redirect(target), .drop])
        guard code == 0 else {
            // Any of three kinds may be the unknown one; less and less is tried to find out which.
            let isDropKnown = try add(filterOf: device, [.drop]) != -NLE_OBJ_NOTFOUND
            let isClassifierKnown = try add(filterOf: device, []) != -NLE_OBJ_NOTFOUND
            let module = isDropKnown ? "act_mirred" : isClassifierKnown ? "act_gact" : "cls_matchall"
            throw Self.failure(code, "the redirect", device.name, module: module)
        }
    }

    private enum Step {
        /// A copy goes there, and the packet on to the next step. Without a copy the packet would, while it waits, keep
        /// the guest's own pages and its place among the 256 of netback's ring: the guest would soon send no more, and
        /// its network device could not be removed while anything is held.
        case redirect(NetworkDevice)
        case drop
    }

    /// - Returns: libnl's code for the filter itself.
    private func add(filterOf device: NetworkDevice, _ steps: [Step]) throws(NetworkBufferError) -> Int32 {
        guard let filter = rtnl_cls_alloc() else {
            throw .refused(what: "the redirect", device: device.name, reason: "out of memory")
        }
        defer { rtnl_cls_put(filter) }
        rtnl_tc_set_ifindex(filter, device.index)
        rtnl_tc_set_parent(filter, romulus_ingress_handle)
        rtnl_cls_set_prio(filter, Self.filterPriority)
        rtnl_cls_set_protocol(filter, UInt16(ETH_P_ALL))
        var code = rtnl_tc_set_kind(filter, "matchall")
        for step in steps where code == 0 { code = append(step, to: filter) }
        guard code == 0 else { throw Self.failure(code, "the redirect", device.name) }
        return rtnl_cls_add(socket, filter, NLM_F_CREATE | NLM_F_EXCL)
    }

    private func append(_ step: Step, to filter: OpaquePointer) -> Int32 {
        guard let action = rtnl_act_alloc() else { return -NLE_NOMEM }
        defer { rtnl_act_put(action) }
        var code: Int32
        switch step {
        case .redirect(let target):
            code = rtnl_tc_set_kind(action, "mirred")
            if code == 0 { code = rtnl_mirred_set_action(action, TCA_EGRESS_REDIR) }
            if code == 0 { code = rtnl_mirred_set_policy(action, TC_ACT_PIPE) }
            if code == 0 { code = rtnl_mirred_set_ifindex(action, UInt32(target.index)) }
        case .drop:
            code = rtnl_tc_set_kind(action, "gact")
            if code == 0 { code = rtnl_gact_set_action(action, TC_ACT_SHOT) }
        }
        return code == 0 ? rtnl_mall_append_action(filter, action) : code
    }

    func removeRedirect(_ device: NetworkDevice) throws(NetworkBufferError) {
        try withIngress(device) { qdisc throws(NetworkBufferError) in
            let code = rtnl_qdisc_delete(socket, qdisc)
            guard code == 0 || code == -NLE_OBJ_NOTFOUND || code == -NLE_NODEV || code == -NLE_INVAL else {
                throw Self.failure(code, "the removal of the redirect", device.name)
            }
        }
    }

    func ingress(of device: NetworkDevice) -> Ingress {
        var cache: OpaquePointer?
        guard rtnl_cls_alloc_cache(socket, device.index, romulus_ingress_handle, &cache) == 0, let cache else {
            return .free
        }
        defer { nl_cache_free(cache) }
        var first: UInt16?
        var target: Int32 = 0
        var next = nl_cache_get_first(cache)
        while let filter = next {
            let priority = rtnl_cls_get_prio(filter)
            first = min(first ?? priority, priority)
            // The kernel tells each priority once without, and then with what stands there.
            if priority == Self.filterPriority { target = max(target, Self.target(of: filter)) }
            next = nl_cache_get_next(filter)
        }
        guard let first else { return .free }
        return first == Self.filterPriority ? .redirected(to: target) : .foreign
    }

    /// 0 where it leads to no device.
    private static func target(of filter: OpaquePointer) -> Int32 {
        guard let action = rtnl_mall_get_first_action(filter) else { return 0 }
        defer { rtnl_act_put(action) }
        return rtnl_tc_get_kind(action).map { String(cString: $0) } == "mirred"
            ? Int32(bitPattern: rtnl_mirred_get_ifindex(action)) : 0
    }

    private func withIngress(
        _ device: NetworkDevice, _ body: (OpaquePointer) throws(NetworkBufferError) -> Void
    ) throws(NetworkBufferError) {
        guard let qdisc = rtnl_qdisc_alloc() else {
            throw .refused(what: "the ingress queue", device: device.name, reason: "out of memory")
        }
        defer { rtnl_qdisc_put(qdisc) }
        rtnl_tc_set_ifindex(qdisc, device.index)
        rtnl_tc_set_parent(qdisc, romulus_tc_ingress)
        rtnl_tc_set_handle(qdisc, romulus_ingress_handle)
        rtnl_tc_set_kind(qdisc, "ingress")
        try body(qdisc)
    }

    // MARK: The plug

    func addPlug(_ device: NetworkDevice, limitBytes: Int) throws(NetworkBufferError) {
        try withPlug(device) { plug throws(NetworkBufferError) in
            var code = rtnl_qdisc_plug_set_limit(plug, Int32(clamping: limitBytes))
            if code == 0 { code = rtnl_qdisc_add(socket, plug, NLM_F_CREATE | NLM_F_REPLACE) }
            guard code == 0 else { throw Self.failure(code, "the plug", device.name, module: "sch_plug") }
        }
    }

    func plugged() -> Set<Int32> {
        var found: Set<Int32> = []
        lookAtRootQueues { queue in
            if rtnl_tc_get_kind(queue).map({ String(cString: $0) }) == "plug" {
                found.insert(rtnl_tc_get_ifindex(queue))
            }
        }
        return found
    }

    /// Of all of this host's devices: the kernel tells of none by itself without telling everybody who listens.
    private func lookAtRootQueues(_ body: (OpaquePointer) -> Void) {
        var cache: OpaquePointer?
        guard rtnl_qdisc_alloc_cache(socket, &cache) == 0, let cache else { return }
        defer { nl_cache_free(cache) }
        var next = nl_cache_get_first(cache)
        while let queue = next {
            if rtnl_tc_get_parent(queue) == romulus_tc_root { body(queue) }
            next = nl_cache_get_next(queue)
        }
    }

    func command(_ command: PlugCommand, _ device: NetworkDevice) throws(NetworkBufferError) {
        try withPlug(device) { plug throws(NetworkBufferError) in
            var code =
                switch command {
                case .buffer: rtnl_qdisc_plug_buffer(plug)
                case .releaseOne: rtnl_qdisc_plug_release_one(plug)
                case .releaseIndefinite: rtnl_qdisc_plug_release_indefinite(plug)
                }
            // Without NLM_F_CREATE, and with no handle, this changes the root queue that is there.
            rtnl_tc_set_handle(plug, 0)
            if code == 0 { code = rtnl_qdisc_add(socket, plug, 0) }
            guard code == 0 else { throw Self.failure(code, "the plug (\(command))", device.name) }
        }
    }

    private func withPlug(
        _ device: NetworkDevice, _ body: (OpaquePointer) throws(NetworkBufferError) -> Void
    ) throws(NetworkBufferError) {
        guard let plug = rtnl_qdisc_alloc() else {
            throw .refused(what: "the plug", device: device.name, reason: "out of memory")
        }
        defer { rtnl_qdisc_put(plug) }
        rtnl_tc_set_ifindex(plug, device.index)
        rtnl_tc_set_parent(plug, romulus_tc_root)
        rtnl_tc_set_handle(plug, Self.plugHandle)
        let code = rtnl_tc_set_kind(plug, "plug")
        guard code == 0 else { throw Self.failure(code, "the plug", device.name) }
        try body(plug)
    }

    func plugStatistics(_ devices: [NetworkDevice]) -> (packets: Int, bytes: Int, drops: Int) {
        var sum = (packets: 0, bytes: 0, drops: 0)
        lookAtRootQueues { queue in
            guard devices.contains(where: { $0.index == rtnl_tc_get_ifindex(queue) }) else { return }
            sum.packets += Int(rtnl_tc_get_stat(queue, RTNL_TC_QLEN))
            sum.bytes += Int(rtnl_tc_get_stat(queue, RTNL_TC_BACKLOG))
            sum.drops += Int(rtnl_tc_get_stat(queue, RTNL_TC_DROPS))
        }
        return sum
    }

    /// At most half a second for the queues, and a moment for what an IFB's own tasklet has in hand.
    func waitUntilEmpty(_ devices: [NetworkDevice]) {
        if devices.isEmpty { return }
        let deadline = MonotonicTime.now + .nanoseconds(milliseconds: 500)
        while plugStatistics(devices).packets > 0, MonotonicTime.now < deadline { usleep(1000) }
        usleep(5000)
    }

    // MARK: Changes

    func watch() throws(NetworkBufferError) { monitor = try NetworkMonitor() }
    var changeDescriptor: Int32 { monitor?.descriptor ?? -1 }
    func takeChanges() -> Bool { monitor?.drain() ?? false }

    /// - Parameter module: what is missing when the kernel says that it does not know the kind.
    private static func failure(
        _ code: Int32, _ what: String, _ device: String, module: String? = nil
    ) -> NetworkBufferError {
        if let module, code == -NLE_OBJ_NOTFOUND || code == -NLE_OPNOTSUPP { return .missingModule(module) }
        return .refused(what: what, device: device, reason: String(cString: nl_geterror(code)))
    }
}
