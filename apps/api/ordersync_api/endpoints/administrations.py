from ordersync_api.calls import Answer, Call, whole_list
from ordersync_api.operations import Operations
from ordersync_api.shapes import ListOf, MembershipShown
from ordersync_core.administrations.ports import AdministrationQueries

operations = Operations("administration")


@operations.get("/v1/administrations", role=None, answers={200: ListOf[MembershipShown]})
def list_administrations(call: Call) -> Answer:
    """The administrations that you are a member of: the names that X-Administration takes."""
    queries: AdministrationQueries = call.admin_queries()
    rows = []
    for membership in queries.memberships_of(call.context.triggered_by):
        administration = queries.administration(membership.administration)
        if administration is not None:
            rows.append({"code": administration.code, "name": administration.name, "role": membership.role.value})
    return whole_list(rows)
