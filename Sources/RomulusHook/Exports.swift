// The C surface: every function that stock Xen calls in place of its own, and nothing else.
//
// Xen's headers declare these names too. `signaturesMatch` makes the compiler hold ours against them.

import CXen

/// libxl.h; called by `xl remus` on the primary.
@_cdecl("libxl_domain_remus_start")
public func romulusRemusStart(
    _ context: OpaquePointer?, _ info: UnsafeMutablePointer<libxl_domain_remus_info>?, _ domain: UInt32,
    _ sendDescriptor: Int32, _ receiveDescriptor: Int32, _ how: UnsafePointer<libxl_asyncop_how>?
) -> Int32 {
    PrimaryRun.start(context, info, domain, sendDescriptor, receiveDescriptor, how)
}

/// libxl.h; called by `xl remus` when the run is over and the domain still exists.
@_cdecl("libxl_domain_resume")
public func romulusResume(
    _ context: OpaquePointer?, _ domain: UInt32, _ suspendCancel: Int32, _ how: UnsafePointer<libxl_asyncop_how>?
) -> Int32 {
    PrimaryRun.resume(context, domain, suspendCancel, how)
}

/// libxl.h; called by `xl migrate-receive -r` on the backup.
@_cdecl("libxl_domain_create_restore")
public func romulusCreateRestore(
    _ context: OpaquePointer?, _ config: UnsafeMutablePointer<libxl_domain_config>?,
    _ domain: UnsafeMutablePointer<UInt32>?, _ restoreDescriptor: Int32, _ sendBackDescriptor: Int32,
    _ parameters: UnsafePointer<libxl_domain_restore_params>?, _ how: UnsafePointer<libxl_asyncop_how>?,
    _ consoleHow: UnsafePointer<libxl_asyncprogress_how>?
) -> Int32 {
    BackupRun.createRestore(
        context, config, domain, restoreDescriptor, sendBackDescriptor, parameters, how, consoleHow)
}

/// libxl_event.h; called by the xl that keeps a guest.
@_cdecl("libxl_evenable_domain_death")
public func romulusEnableDeath(
    _ context: OpaquePointer?, _ domain: UInt32, _ user: libxl_ev_user, _ watch: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
    GuestKeeper.enable(context, domain, user, watch)
}

/// libxl_event.h; called by the xl that keeps a guest.
@_cdecl("libxl_evdisable_domain_death")
public func romulusDisableDeath(_ context: OpaquePointer?, _ watch: OpaquePointer?) {
    GuestKeeper.disable(context, watch)
}

/// libxl_event.h's libxl_event_predicate, spelled out: of that name the importer makes a block.
public typealias EventPredicate = @convention(c) (UnsafePointer<libxl_event>?, UnsafeMutableRawPointer?) -> Int32

/// libxl_event.h; called by the xl that keeps a guest.
@_cdecl("libxl_event_wait")
public func romulusEventWait(
    _ context: OpaquePointer?, _ event: UnsafeMutablePointer<UnsafeMutablePointer<libxl_event>?>?, _ mask: UInt64,
    _ predicate: EventPredicate?, _ predicateUser: UnsafeMutableRawPointer?
) -> Int32 {
    GuestKeeper.wait(context, event, mask, predicate, predicateUser)
}

/// xenguest.h; called by libxl-save-helper on the primary.
@_cdecl("xc_domain_save")
public func romulusDomainSave(
    _ interface: OpaquePointer?, _ stream: Int32, _ domain: UInt32, _ flags: UInt32,
    _ callbacks: UnsafeMutablePointer<save_callbacks>?, _ streamType: xc_stream_type_t, _ receiveDescriptor: Int32
) -> Int32 {
    HelperRun.save(interface, stream, domain, flags, callbacks, streamType, receiveDescriptor)
}

private func signaturesMatch() {
    func same<Function>(_: Function, _: Function) {}
    same(CXen.libxl_domain_remus_start, romulusRemusStart)
    same(CXen.libxl_domain_resume, romulusResume)
    same(CXen.libxl_domain_create_restore, romulusCreateRestore)
    same(CXen.libxl_evenable_domain_death, romulusEnableDeath)
    same(CXen.libxl_evdisable_domain_death, romulusDisableDeath)
    same(CXen.libxl_event_wait, romulusEventWait)
    same(CXen.xc_domain_save, romulusDomainSave)
}
